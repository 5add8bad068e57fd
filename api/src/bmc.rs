//! The base board management controller (BMC) of a host: the small computer that switches the host on and off, also while the
//! host itself does not answer. The cluster uses it to prove that a lost host is off.
//!
//! Its password is given and never told again.

use crate::{Timestamp, meta::is_unseen, problem::FieldError, time::server_and_port};
use serde::{Deserialize, Serialize};

/// Longest a client waits for the answer to a test.
pub const BMC_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(45);
/// Longest id of a system, bytes.
const MAX_SYSTEM: usize = 128;

/// How a BMC is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BmcProtocol {
    /// Redfish over HTTPS (DMTF DSP0266).
    #[default]
    Redfish,
    /// IPMI 2.0 over LAN (RMCP+) with cipher suite 17, or 3 where it has no other. Weaker than Redfish: whoever reaches its port can
    /// try passwords on what it answers.
    Ipmi,
}

impl BmcProtocol {
    /// The port where none is given.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Redfish => 443,
            Self::Ipmi => 623,
        }
    }

    /// Whether it shows who it is by a certificate.
    #[must_use]
    pub const fn has_certificate(self) -> bool {
        match self {
            Self::Redfish => true,
            Self::Ipmi => false,
        }
    }

    /// Longest user name, bytes.
    const fn max_user(self) -> usize {
        match self {
            Self::Redfish => 64,
            Self::Ipmi => 16,
        }
    }

    /// Longest password, bytes.
    const fn max_password(self) -> usize {
        match self {
            Self::Redfish => 256,
            Self::Ipmi => 20,
        }
    }

    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Redfish => "redfish",
            Self::Ipmi => "ipmi",
        }
    }
}

impl std::str::FromStr for BmcProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Redfish, Self::Ipmi];
        let found = all.into_iter().find(|protocol| protocol.text() == text);
        found.ok_or_else(|| "is neither redfish nor ipmi".into())
    }
}

/// Where the BMC of a host is, and as whom it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BmcSpec {
    /// How it is spoken to.
    #[serde(default)]
    pub protocol: BmcProtocol,
    /// Name or address, with a port where it is not the protocol's own: `10.0.0.7`, `bmc1.lan:8443`, `[fd00::7]:443`.
    pub address: String,
    /// The user that may read the power state and switch the host off. At most 64 bytes without a colon; for IPMI 16 bytes.
    pub username: String,
    /// SHA-256 of the certificate it presents, hexadecimal, with or without colons. No other one is trusted. Needed for Redfish; a
    /// test without it answers the one that is presented. IPMI has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Which of its systems the host is, by its id, where a BMC manages several. Not for IPMI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// The BMC of a host. `GET /hosts/{id}/bmc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Bmc {
    /// What was set; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<BmcSpec>,
    /// How it does, as the host that leads sees it; absent until it was asked for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<BmcStatus>,
}

/// How a BMC does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BmcStatus {
    /// When it was last asked.
    pub checked_at: Timestamp,
    /// What it said; absent where it gave no answer that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<BmcPower>,
    /// Since when it does not do; absent while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// Why it does not, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The power of a host, as its BMC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BmcPower {
    /// It is on, or in between: not off.
    On,
    /// It is off.
    Off,
}

impl std::fmt::Display for BmcPower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

/// `PUT /hosts/{id}/bmc`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetBmc {
    /// All of what is wanted.
    pub spec: BmcSpec,
    /// The password, at most 256 bytes, for IPMI 20. The one that was given before stays where it is absent and `spec` is as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl std::fmt::Debug for SetBmc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SetBmc({:?}, password hidden)", self.spec)
    }
}

/// `POST /hosts/{id}/bmc/test`: tries these settings without keeping them; without any, those that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TestBmc {
    /// What is to be tried. Its password may be absent as for `PUT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SetBmc>,
}

/// What came of a test. Nothing is switched by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BmcTest {
    /// What the BMC says of the host's power; absent where it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<BmcPower>,
    /// What the BMC says which machine it is: see that it is the right one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// SHA-256 of the certificate it presented, where that is not the one in the settings: hexadecimal with colons. No password was
    /// sent to it. Compare it with what the BMC's own page or the vendor's tool shows before it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presented: Option<String>,
    /// Why it could not be asked, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// The SHA-256 in a text of 64 hexadecimal digits, with colons between the bytes or without.
#[must_use]
pub fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = match text.len() {
        64 => text.bytes().collect(),
        95 if text.bytes().skip(2).step_by(3).all(|b| b == b':') => {
            text.bytes().enumerate().filter(|(n, _)| n % 3 != 2).map(|(_, b)| b).collect()
        }
        _ => return None,
    };
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = (digit(*pair.first()?)? << 4) | digit(*pair.get(1)?)?;
    }
    Some(bytes)
}

impl BmcSpec {
    /// Name or address, and port.
    #[must_use]
    pub fn place(&self) -> Option<(String, u16)> {
        let bare = self.address.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<std::net::IpAddr>() {
            return Some((ip.to_string(), self.protocol.port()));
        }
        let (host, port) = server_and_port(&self.address)?;
        // What was given without a port has the protocol's own.
        let given = self.address.rsplit_once(':').is_some();
        Some((host.to_ascii_lowercase(), if given { port } else { self.protocol.port() }))
    }

    /// Whether both are of one system of one BMC.
    #[must_use]
    pub fn is_same_machine(&self, other: &Self) -> bool {
        // Without the name of a system it is the only one there.
        let systems = match (&self.system, &other.system) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        // One that speaks both protocols has a port for each.
        let place = |spec: &Self| {
            spec.place().map(|(host, port)| (host, (self.protocol == other.protocol).then_some(port)))
        };
        systems && place(self) == place(other)
    }

    /// Every fault; `trusted` says that a certificate is needed where the protocol has one.
    #[must_use]
    pub fn validate(&self, trusted: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, why: &str| errors.push(FieldError::new(format!("spec.{field}"), why));
        if self.place().is_none() {
            wrong("address", "is not a name or an address, with a port or without");
        }
        let (user, longest) = (&self.username, self.protocol.max_user());
        // Basic authentication ends the name at a colon.
        let colon = self.protocol == BmcProtocol::Redfish && user.contains(':');
        if user.is_empty() || user.len() > longest || user.chars().any(is_unseen) || colon {
            let why = format!(
                "is empty, longer than {longest} bytes, or has a colon or a character that is not seen"
            );
            wrong("username", &why);
        }
        match &self.certificate {
            Some(_) if !self.protocol.has_certificate() => wrong(
                "certificate",
                "is not for IPMI, which shows none: the BMC proves who it is by the password. Leave it out",
            ),
            Some(text) if fingerprint(text).is_none() => {
                wrong("certificate", "is not a SHA-256: 64 hexadecimal digits, with colons or without");
            }
            None if trusted && self.protocol.has_certificate() => wrong(
                "certificate",
                "is needed: test the settings, compare the fingerprint in the answer with the one the BMC itself shows, and give it",
            ),
            _ => {}
        }
        let fits = |s: &str| {
            !s.is_empty()
                && s.len() <= MAX_SYSTEM
                && s.bytes().all(|b| b.is_ascii_graphic())
                && !s.contains('/')
        };
        if self.system.is_some() && self.protocol == BmcProtocol::Ipmi {
            wrong("system", "is not for IPMI, where a BMC manages one machine. Leave it out");
        } else if self.system.as_deref().is_some_and(|s| !fits(s)) {
            wrong("system", "is not the id of a system");
        }
        errors
    }
}

impl SetBmc {
    /// Every fault; `trusted` as of [`BmcSpec::validate`].
    #[must_use]
    pub fn validate(&self, trusted: bool) -> Vec<FieldError> {
        let mut errors = self.spec.validate(trusted);
        let longest = self.spec.protocol.max_password();
        if let Some(password) = &self.password
            && (password.is_empty() || password.len() > longest || password.chars().any(char::is_control))
        {
            let why = format!("is empty, longer than {longest} bytes, or has a control character");
            errors.push(FieldError::new("password", why));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: &str) -> BmcSpec {
        BmcSpec {
            protocol: BmcProtocol::Redfish,
            address: address.into(),
            username: "lq".into(),
            certificate: Some("ab".repeat(32)),
            system: None,
        }
    }

    #[test]
    fn places_are_read() {
        let place = |text: &str| spec(text).place();
        let at = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(place("10.0.0.7"), at("10.0.0.7", 443));
        assert_eq!(place("10.0.0.7:123"), at("10.0.0.7", 123));
        assert_eq!(place("BMC1.lan"), at("bmc1.lan", 443));
        assert_eq!(place("bmc1.lan:8443"), at("bmc1.lan", 8443));
        assert_eq!(place("fd00::7"), at("fd00::7", 443));
        assert_eq!(place("[fd00::7]"), at("fd00::7", 443));
        assert_eq!(place("[fd00::7]:8443"), at("fd00::7", 8443));
        for bad in ["", "a b", "https://x", "x:0", "x:y", "a/b", "-x"] {
            assert_eq!(place(bad), None, "{bad}");
        }
        assert!(spec("bmc1.lan").is_same_machine(&spec("BMC1.lan:443")));
        assert!(!spec("bmc1.lan").is_same_machine(&spec("bmc1.lan:444")));
        let blade = |id: &str| BmcSpec { system: Some(id.into()), ..spec("x") };
        assert!(!blade("1").is_same_machine(&blade("2")));
        assert!(blade("1").is_same_machine(&spec("x")));
        let ipmi = |address| BmcSpec { protocol: BmcProtocol::Ipmi, certificate: None, ..spec(address) };
        assert_eq!(ipmi("fd00::7").place(), at("fd00::7", 623));
        assert_eq!(ipmi("bmc1.lan").place(), at("bmc1.lan", 623));
        assert!(ipmi("bmc1.lan").is_same_machine(&spec("bmc1.lan:8443")));
        assert!(!ipmi("bmc1.lan").is_same_machine(&ipmi("bmc1.lan:624")));
        assert!(!ipmi("bmc1.lan").is_same_machine(&spec("bmc2.lan")));
    }

    #[test]
    fn protocols_are_read_as_they_are_written() {
        for protocol in [BmcProtocol::Redfish, BmcProtocol::Ipmi] {
            assert_eq!(protocol.text().parse(), Ok(protocol));
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.text());
        }
        assert!("IPMI 1.5".parse::<BmcProtocol>().is_err());
    }

    #[test]
    fn ipmi_has_limits_of_its_own() {
        let mut set = SetBmc {
            spec: BmcSpec { protocol: BmcProtocol::Ipmi, certificate: None, ..spec("x") },
            password: Some("p".repeat(20)),
        };
        assert_eq!(set.validate(true), []);
        set.spec.username = "u".repeat(17);
        set.spec.certificate = Some("ab".repeat(32));
        set.spec.system = Some("1".into());
        set.password = Some("p".repeat(21));
        let fields: Vec<_> = set.validate(false).into_iter().map(|e| e.field).collect();
        assert_eq!(fields, ["spec.username", "spec.certificate", "spec.system", "password"]);
    }

    #[test]
    fn fingerprints_are_read_in_both_forms() {
        let bytes = [0xAB; 32];
        assert_eq!(fingerprint(&"ab".repeat(32)), Some(bytes));
        assert_eq!(fingerprint(&vec!["AB"; 32].join(":")), Some(bytes));
        for bad in ["", "ab", &"xy".repeat(32), &vec!["AB"; 32].join("-"), &vec!["éB"; 24].join(":")] {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_fault_is_named() {
        let fields =
            |set: &SetBmc, trusted| set.validate(trusted).into_iter().map(|e| e.field).collect::<Vec<_>>();
        let mut set = SetBmc { spec: spec("x"), password: Some("p".into()) };
        assert!(fields(&set, true).is_empty());
        set.spec.certificate = None;
        assert!(fields(&set, false).is_empty());
        assert_eq!(fields(&set, true), ["spec.certificate"]);
        let bad = BmcSpec {
            username: "a:b".into(),
            certificate: Some("x".into()),
            system: Some("../x".into()),
            ..spec("a b")
        };
        set = SetBmc { spec: bad, password: Some(String::new()) };
        let all = ["spec.address", "spec.username", "spec.certificate", "spec.system", "password"];
        assert_eq!(fields(&set, true), all);
        assert!(
            !format!("{:?}", SetBmc { spec: spec("x"), password: Some("sesame".into()) }).contains("sesame")
        );
    }
}
