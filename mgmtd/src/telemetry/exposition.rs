//! Prometheus' text format, version 0.0.4: what is read when someone asks. Names follow Prometheus' conventions: base units, the
//! unit last, `_total` for what only grows.

use std::{
    collections::BTreeSet,
    fmt::{Display, Write as _},
};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A text of families, each with its samples.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// A family with its samples: labels and value. One without samples is left out, and so is a sample whose value is not known.
    pub fn family<'a, L>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (L, Option<f64>)>,
    ) where
        L: AsRef<[(&'a str, &'a str)]>,
    {
        debug_assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        let mut begun = false;
        for (labels, value) in samples {
            let Some(value) = value.filter(|v| v.is_finite()) else { continue };
            if !std::mem::replace(&mut begun, true) {
                let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
            }
            self.0.push_str(name);
            let labels = labels.as_ref();
            if !labels.is_empty() {
                let pairs: Vec<_> = labels.iter().map(|(n, v)| format!("{n}=\"{}\"", escaped(v))).collect();
                let _ = write!(self.0, "{{{}}}", pairs.join(","));
            }
            let _ = writeln!(self.0, " {value}");
        }
    }

    /// A family of one sample without labels.
    pub fn one(&mut self, name: &str, kind: Kind, help: &str, value: Option<f64>) {
        self.family(name, kind, help, [([], value)]);
    }
}

impl Display for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A label's value: backslash, quote and line feed with a backslash before.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The same metrics in this format, of a text in the format OpenMetrics 1.0, which names a counter without its `_total` in TYPE
/// and HELP and has two kinds of line that are not known here.
#[must_use]
pub fn from_open_metrics(text: &str) -> String {
    let counter = |line: &str| line.strip_prefix("# TYPE ")?.strip_suffix(" counter").map(str::to_owned);
    let counters: BTreeSet<String> = text.lines().filter_map(counter).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let described =
            ["# HELP ", "# TYPE "].iter().find_map(|start| Some((*start, line.strip_prefix(start)?)));
        match described.and_then(|(start, rest)| Some((start, rest.split_once(' ')?))) {
            Some((start, (name, rest))) if counters.contains(name) => {
                let _ = writeln!(out, "{start}{name}_total {rest}");
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut text = Exposition::default();
        text.one("lq_a_bytes", Kind::Gauge, "Bytes of a.", Some(1.5));
        text.one("lq_unknown", Kind::Gauge, "Not known.", None);
        let labels = [("vm", "a \"b\" \\ \n")];
        text.family(
            "lq_b_total",
            Kind::Counter,
            "Bs.",
            [(labels, Some(3.0)), ([("vm", "c")], Some(f64::NAN))],
        );
        assert_eq!(
            text.to_string(),
            "# HELP lq_a_bytes Bytes of a.\n# TYPE lq_a_bytes gauge\nlq_a_bytes 1.5\n\
             # HELP lq_b_total Bs.\n# TYPE lq_b_total counter\nlq_b_total{vm=\"a \\\"b\\\" \\\\ \\n\"} 3\n"
        );
    }

    #[test]
    fn counters_get_their_names() {
        let open = "# HELP a As.\n# TYPE a counter\na_total 1\n# HELP b_seconds Bs.\n# TYPE b_seconds gauge\n\
                    # UNIT b_seconds seconds\nb_seconds 2\n# EOF\n";
        let plain = "# HELP a_total As.\n# TYPE a_total counter\na_total 1\n# HELP b_seconds Bs.\n\
                     # TYPE b_seconds gauge\nb_seconds 2\n";
        assert_eq!(from_open_metrics(open), plain);
    }
}
