//! Every operation of the API has a command: what `commands.table` says, tried on a running daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Host, PASSWORD, Person, iso, kernel};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const TABLE: &str = include_str!("commands.table");
const API: &str = include_str!("../../api/openapi.json");
/// They stand beside `/api/v1`, and are in no document.
const BESIDE: [&str; 3] = ["GET /health", "GET /ready", "GET /metrics"];
/// The client pages by itself.
const PAGING: [&str; 2] = ["limit", "cursor"];

/// A line of the table.
struct Row {
    /// `METHOD /path`.
    operation: String,
    /// None: it goes on until it is ended.
    code: Option<i32>,
    line: String,
}

/// The rows, and what has no command: `METHOD /path` or `METHOD /path?parameter`.
fn table() -> (Vec<Row>, BTreeSet<String>) {
    let (mut rows, mut without) = (Vec::new(), BTreeSet::new());
    for text in TABLE.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let words: Vec<_> = text.split_whitespace().collect();
        if words[0] == "-" {
            assert!(words.len() > 3, "`{text}`: a reason is missing");
            without.insert(format!("{} {}", words[1], words[2]));
            continue;
        }
        let [method, path, code, "|", line @ ..] = &words[..] else {
            panic!("`{text}` is not `METHOD /path CODE | command line`");
        };
        let code = (*code != "~").then(|| code.parse().unwrap_or_else(|_| panic!("`{text}`: the exit code")));
        rows.push(Row { operation: format!("{method} {path}"), code, line: line.join(" ") });
    }
    (rows, without)
}

/// The operations of the document, each with the parameters of its query.
fn operations() -> BTreeMap<String, BTreeSet<String>> {
    let document: Value = serde_json::from_str(API).unwrap();
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let all = operation["parameters"].as_array().into_iter().flatten();
            let query = all.filter(|p| p["in"] == "query").map(|p| p["name"].as_str().unwrap().to_owned());
            found.insert(format!("{} {path}", method.to_uppercase()), query.collect());
        }
    }
    found
}

#[test]
fn every_operation_is_in_the_table() {
    let (rows, without) = table();
    let known = operations();
    for operation in known.keys() {
        let has = rows.iter().any(|row| row.operation == *operation);
        assert!(
            has != without.contains(operation),
            "`{operation}` has no command (or one, and a reason why not).\n\
             Give lqctl one: its words in lqctl/src/cli/, what it does in lqctl/src/commands/, the call in api/src/client/calls.rs. \
             Then add to lqctl/tests/commands.table, where the objects it needs are there already, a line like\n\
             {operation}   0 | noun verb OBJECT\n\
             or, where a command makes no sense, why:\n\
             - {operation}   REASON"
        );
    }
    for row in &rows {
        let there = known.contains_key(&row.operation) || BESIDE.contains(&row.operation.as_str());
        assert!(there, "`{}` of lqctl/tests/commands.table is no operation of the API", row.operation);
    }
}

/// A running host and what lines of the table may name.
struct Bench {
    host: Host,
    admin: Person,
    /// One that is not yet in the cluster.
    other: Host,
    code: String,
    files: BTreeMap<&'static str, String>,
}

impl Bench {
    fn new() -> Self {
        let host = Host::fresh();
        let files =
            BTreeMap::from([("kernel", host.file("k", &kernel())), ("iso", host.file("c.iso", &iso()))]);
        Self { code: host.setup_code(), host, other: Host::fresh(), admin: Person::new(), files }
    }

    /// A line with everything filled in.
    fn fill(&self, line: &str) -> String {
        let mut filled = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap();
            filled += before;
            filled += &self.value(name);
            rest = after;
        }
        filled + rest
    }

    fn value(&self, name: &str) -> String {
        let at = |line: &str, place: &str| {
            let shown = self.admin.json(line);
            let found = shown.pointer(place).unwrap_or_else(|| panic!("{line} has no {place}: {shown}"));
            found.as_str().map_or_else(|| found.to_string(), str::to_owned)
        };
        match name {
            "url" => self.host.url(),
            "fingerprint" => self.host.fingerprint(),
            "code" => self.code.clone(),
            "other" => {
                let (url, fingerprint, code) =
                    (self.other.url(), self.other.fingerprint(), self.other.setup_code());
                let line = format!("--profile other setup {url} --fingerprint {fingerprint} --code {code}");
                self.admin.words(&line).env("LQ_NEW_PASSWORD", PASSWORD).ok();
                "other".into()
            }
            "token" => at("cluster token create", "/text"),
            "dir" => self.host.dir.path().display().to_string(),
            "host" => at("host list", "/0/meta/id"),
            "task" => at("task list", "/0/id"),
            "join-token" => at("cluster token list", "/0/id"),
            "backup" => at("cluster backup list", "/0/id"),
            "revision" => at("cluster show", "/revision"),
            // Raised within seconds after its rule was set.
            "alert" => {
                self.admin.until("alert list --rule pool-filling", |l| l[0]["id"].is_string())[0]["id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            }
            "old-session" => {
                let all = self.admin.json("session list");
                let old = all.as_array().unwrap().iter().find(|s| s["current"] == false).unwrap();
                old["id"].as_str().unwrap().to_owned()
            }
            name => match name.split_once(':') {
                Some((kind, name)) => at(&format!("{kind} show {name}"), "/meta/id"),
                None => self.files.get(name).unwrap_or_else(|| panic!("{{{name}}} is not known")).clone(),
            },
        }
    }

    /// Runs a row; answers with the requests it made, `METHOD /path?query`, and what is wrong with its end.
    fn run(&self, row: &Row) -> (Vec<String>, Option<String>) {
        let line = self.fill(&row.line);
        let run = self.admin.words(&format!("{line} --verbose --timeout 60"));
        let mut started = run.env("LQ_PASSWORD", PASSWORD).env("LQ_NEW_PASSWORD", PASSWORD).at_terminal();
        // Whoever asks for a one-time code gets one.
        started.type_in("000000\n");
        let (shown, said) = (started.shown.clone(), started.said.clone());
        let mut fault = None;
        match row.code {
            None => {
                let (method, path) = row.operation.split_once(' ').unwrap();
                let fixed = path.split('{').next().unwrap();
                said.until(&format!("lqctl: {method} /api/v1{fixed}"));
                started.kill();
            }
            Some(code) => {
                let ended = started.ended();
                said.until_closed();
                if ended != code {
                    fault =
                        Some(format!("{ended}, not {code}: lqctl {line}\n{}{}", shown.text(), said.text()));
                }
            }
        }
        let told = said.text();
        // A question may stand before it in its line.
        let requests = told.lines().filter_map(|l| Some(l.trim_end().split_once("lqctl: ")?.1));
        let requests = requests.filter(|r| r.split(' ').nth(1).is_some_and(|path| path.starts_with('/')));
        (requests.map(|r| r.replacen("/api/v1", "", 1)).collect(), fault)
    }
}

/// Whether a request is of an operation.
fn is_of(request: &str, operation: &str) -> bool {
    let path = request.split('?').next().unwrap();
    let (mut wanted, mut found) = (operation.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(w), Some(f)) if w == f || (w.starts_with('{') && !f.is_empty()) => {}
            _ => return false,
        }
    }
}

#[test]
fn every_command_asks_for_what_the_table_says() {
    let (rows, without) = table();
    let operations = operations();
    let bench = Bench::new();
    let mut parameters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in &rows {
        let (requests, fault) = bench.run(row);
        faults.extend(fault);
        if !requests.iter().any(|r| is_of(r, &row.operation)) {
            faults.push(format!(
                "`lqctl {}` does not ask for {}, but for {requests:?}",
                row.line, row.operation
            ));
        }
        // What is looked up by name on the way counts too.
        for request in &requests {
            let Some((_, query)) = request.split_once('?') else { continue };
            let names = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            let names: BTreeSet<_> = names.collect();
            for operation in operations.keys().filter(|o| is_of(request, o)) {
                parameters.entry(operation.clone()).or_default().extend(names.clone());
            }
        }
    }
    assert!(
        faults.is_empty(),
        "lines of lqctl/tests/commands.table are not as they say:\n{}",
        faults.join("\n")
    );
    for (operation, query) in operations {
        let seen = parameters.get(&operation).cloned().unwrap_or_default();
        for name in query.iter().filter(|n| !PAGING.contains(&n.as_str())) {
            assert!(
                seen.contains(name) != without.contains(&format!("{operation}?{name}")),
                "no command line of lqctl/tests/commands.table for `{operation}` uses its parameter `{name}`: give the command an \
                 option for it and use it in the table, or add `- {operation}?{name}   REASON`"
            );
        }
    }
}
