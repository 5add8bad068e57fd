//! Logging in by a directory: a real `slapd` of Debian's package, with TLS, StartTLS, a service account and groups.
//!
//! Needs Debian's packages `slapd` and `ldap-utils` (`scripts/packages.txt`): without them this fails and says so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Bench, id};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const BASE: &str = "dc=example,dc=org";
const SERVICE: &str = "cn=service,dc=example,dc=org";
const SERVICE_PASSWORD: &str = "of the service";
const EVE: &str = "eve's own (*) pass\\word";

/// A directory server. Ends with the test, however that ends.
struct Slapd {
    dir: tempfile::TempDir,
    process: Option<Child>,
    ports: [u16; 2],
    ca: String,
    pin: String,
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program(name: &str) -> Command {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    let found = places.into_iter().map(|dir| dir.join(name)).find(|p| p.is_file());
    Command::new(
        found.unwrap_or_else(|| {
            panic!("`{name}` is missing: install Debian's packages `slapd` and `ldap-utils`")
        }),
    )
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn certificates(dir: &Path) -> (String, String) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let own = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), own.pem()).unwrap();
    let pin = ring::digest::digest(&ring::digest::SHA256, own.der());
    (ca.pem(), hex::encode(pin.as_ref()))
}

impl Slapd {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ca, pin) = certificates(dir.path());
        std::fs::create_dir(dir.path().join("db")).unwrap();
        let place = dir.path().display();
        let schemas =
            ["core", "cosine", "inetorgperson"].map(|s| format!("include /etc/ldap/schema/{s}.schema\n"));
        let text = format!(
            "{}modulepath /usr/lib/ldap\nmoduleload back_mdb\nmoduleload memberof\npidfile {place}/pid\n\
             TLSCertificateFile {place}/cert.pem\nTLSCertificateKeyFile {place}/key.pem\n\
             database mdb\nsuffix {BASE}\nrootdn cn=root,{BASE}\nrootpw root\ndirectory {place}/db\n\
             overlay memberof\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact={SERVICE} read by self read by * none\n",
            schemas.concat()
        );
        std::fs::write(dir.path().join("slapd.conf"), text).unwrap();
        let mut server = Self { dir, process: None, ports: [0; 2], ca, pin };
        server.start();
        let person = |uid: &str, name: &str, password: &str| {
            format!(
                "dn: uid={uid},ou=people,{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {name}\nsn: x\n\
                 userPassword: {password}\n\n"
            )
        };
        let group = |name: &str, member: &str| {
            format!(
                "dn: cn={name},ou=groups,{BASE}\nchangetype: add\nobjectClass: groupOfNames\ncn: {name}\n\
                 member: uid={member},ou=people,{BASE}\n\n"
            )
        };
        let unit = |name: &str| {
            format!("dn: ou={name},{BASE}\nchangetype: add\nobjectClass: organizationalUnit\nou: {name}\n\n")
        };
        server.change(&format!(
            "dn: {BASE}\nchangetype: add\nobjectClass: domain\ndc: example\n\n{}{}{}{}{}{}{}",
            format_args!(
                "dn: {SERVICE}\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
                 cn: service\nuserPassword: {SERVICE_PASSWORD}\n\n"
            ),
            unit("people"),
            unit("groups"),
            person("eve", "Eve Example", EVE),
            person("bob", "Bob", "of bob"),
            group("VM Admins", "eve"),
            group("others", "bob"),
        ));
        server
    }

    fn start(&mut self) {
        for _ in 0..5 {
            if self.ports == [0; 2] {
                self.ports = [free_port(), free_port()];
            }
            let [plain, tls] = self.ports;
            let mut process = program("slapd")
                .args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{plain} ldaps://127.0.0.1:{tls}"), "-f"])
                .arg(self.dir.path().join("slapd.conf"))
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            loop {
                if process.try_wait().unwrap().is_some() {
                    // Someone else took the port meanwhile.
                    self.ports = [0; 2];
                    break;
                }
                let up = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
                if up(plain) && up(tls) {
                    self.process = Some(process);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("slapd does not start");
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Changes the directory (LDIF).
    fn change(&self, ldif: &str) {
        let mut child = program("ldapmodify")
            .args(["-x", "-D", &format!("cn=root,{BASE}"), "-w", "root", "-H"])
            .arg(format!("ldap://127.0.0.1:{}", self.ports[0]))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(ldif.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{ldif}");
    }

    fn url(&self, tls: bool) -> String {
        if tls {
            format!("ldaps://127.0.0.1:{}", self.ports[1])
        } else {
            format!("ldap://127.0.0.1:{}", self.ports[0])
        }
    }

    /// A source with a service account.
    fn source(&self) -> Value {
        json!({
            "kind": "ldap", "servers": ["ldaps://127.0.0.1:1", self.url(true)], "ca": self.ca, "bind_dn": SERVICE,
            "base_dn": BASE,
        })
    }
}

/// A group `vm-admins` that may do everything to machines.
async fn group(bench: &Bench, name: &str) -> String {
    let role = bench.api.role("operator").await;
    let spec = json!({"grants": [{"role": role, "scope": {"kind": "cluster"}}]});
    id(&bench.api.ok(Method::POST, "/groups", Some(json!({"name": name, "spec": spec}))).await)
}

async fn provider(bench: &Bench, spec: Value) -> String {
    let body = json!({"name": "corp", "spec": spec, "secret": SERVICE_PASSWORD});
    let made = bench.api.ok(Method::POST, "/identity-providers", Some(body)).await;
    assert_eq!(made["has_secret"], true);
    assert!(!made.to_string().contains(SERVICE_PASSWORD), "{made}");
    id(&made)
}

async fn refused(bench: &Bench, status: u16, body: Value) -> Value {
    let mut nobody = bench.api.clone();
    nobody.token = None;
    nobody.refused(status, Method::POST, "/session", Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_a_directory_log_in_and_end_with_it() {
    let mut slapd = Slapd::new();
    let bench = Bench::new().await;
    let admins = group(&bench, "vm-admins").await;
    let spec = json!({"groups": [{"external": "vm admins", "group": admins}], "source": slapd.source()});
    let corp = provider(&bench, spec.clone()).await;
    let place = format!("/identity-providers/{corp}");

    // The first server of the list is not there; the second one is asked.
    let session = bench.api.login("eve@corp", EVE).await;
    assert_eq!(session["username"], "eve@corp");
    let eve = bench.api.clone();
    let eve = common::Api { token: session["token"].as_str().map(str::to_owned), ..eve };
    let who = eve.get("/session").await;
    assert_eq!((who["realm"].as_str(), who["has_password"].as_bool()), (Some("corp"), Some(false)));
    eve.get("/vms").await;
    eve.refused(403, Method::GET, "/audit", None).await;
    let user = bench.api.get("/users?name=eve@corp").await["items"][0].clone();
    assert_eq!(user["status"]["groups"], json!([admins]));
    assert_eq!(
        (user["spec"]["full_name"].as_str(), user["status"]["source"].as_str()),
        (Some("Eve Example"), Some("ldap"))
    );
    // By the realm's own name too, in any letter case; and it is the same user.
    for body in [
        json!({"username": "eve", "password": EVE, "realm": "corp"}),
        json!({"username": "EVE@CORP", "password": EVE}),
    ] {
        let again = bench.api.ok(Method::POST, "/session", Some(body)).await;
        assert_eq!(again["username"], "eve@corp");
    }
    assert_eq!(bench.api.get("/users").await["items"].as_array().unwrap().len(), 2);

    // What is wrong, and what could be taken for right.
    for (name, password) in
        [("eve@corp", "wrong"), ("eve@corp", ""), ("*@corp", EVE), ("eve)(uid=*@corp", EVE)]
    {
        let problem = refused(&bench, 401, json!({"username": name, "password": password})).await;
        assert_eq!(problem["detail"], "the user name or the password is wrong", "{name}");
        bench.api.login("eve@corp", EVE).await;
    }
    refused(&bench, 401, json!({"username": "eve", "password": EVE})).await;
    let problem = refused(&bench, 403, json!({"username": "bob@corp", "password": "of bob"})).await;
    assert!(problem["detail"].as_str().unwrap().contains("nothing is granted"), "{problem}");
    assert_eq!(
        bench.api.get("/users?name=bob@corp").await["items"],
        json!([]),
        "nobody is kept who may do nothing"
    );
    let problem = refused(&bench, 422, json!({"username": "eve", "password": EVE, "realm": "else"})).await;
    assert_eq!(problem["errors"][0]["field"], "realm");
    let noted = bench.api.get("/audit?action=session.create&actor=eve@corp&outcome=done").await;
    assert_eq!(noted["items"][0]["user"], user["meta"]["id"]);

    // Nobody takes over what is theirs alone.
    for (field, method, path, body) in [
        ("name", Method::POST, "/users".to_owned(), json!({"name": "x@corp"})),
        (
            "name",
            Method::PATCH,
            format!("/users/{}", user["meta"]["id"].as_str().unwrap()),
            json!({"name": "eve"}),
        ),
    ] {
        assert_eq!(bench.api.refused(422, method, &path, Some(body)).await["errors"][0]["field"], field);
    }
    bench.api.refused(409, Method::DELETE, &format!("/groups/{admins}"), None).await;

    // Groups follow the directory, and so does the end of an account.
    let nudge = async |n: u32| {
        let body = json!({"labels": {"nudge": n.to_string()}});
        bench.api.ok(Method::PATCH, &place, Some(body)).await;
    };
    slapd.change(&format!(
        "dn: cn=VM Admins,ou=groups,{BASE}\nchangetype: modify\nadd: member\nmember: uid=bob,ou=people,{BASE}\n-\n\
         delete: member\nmember: uid=eve,ou=people,{BASE}\n"
    ));
    nudge(1).await;
    bench.api.until("/users?name=eve@corp", |u| u["items"][0]["status"]["groups"] == json!([])).await;
    assert_eq!(eve.get("/session").await["rights"], json!([]));
    bench.api.login("bob@corp", "of bob").await;
    slapd.change(&format!("dn: uid=eve,ou=people,{BASE}\nchangetype: delete\n"));
    nudge(2).await;
    bench.api.until("/users?name=eve@corp", |u| u["items"][0]["status"]["gone"] == true).await;
    eve.refused(401, Method::GET, "/session", None).await;
    refused(&bench, 401, json!({"username": "eve@corp", "password": EVE})).await;

    // Someone new with the old name is not taken for the old one.
    slapd.change(&format!(
        "dn: uid=eve,ou=people,{BASE}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: eve\ncn: Another\nsn: x\n\
         userPassword: new\n\ndn: cn=VM Admins,ou=groups,{BASE}\nchangetype: modify\nadd: member\n\
         member: uid=eve,ou=people,{BASE}\n"
    ));
    let problem = refused(&bench, 409, json!({"username": "eve@corp", "password": "new"})).await;
    assert!(problem["detail"].as_str().unwrap().contains("someone else before"), "{problem}");

    // A directory that is away ends nothing, is told, and is no guess at a password.
    let bob = bench.api.login("bob@corp", "of bob").await;
    let bob = common::Api { token: bob["token"].as_str().map(str::to_owned), ..bench.api.clone() };
    slapd.kill();
    nudge(3).await;
    let failing =
        |p: &Value| p["status"]["failure"].as_str().is_some_and(|f| f.contains("cannot be reached"));
    bench.api.until(&place, failing).await;
    bob.get("/session").await;
    for _ in 0..8 {
        refused(&bench, 503, json!({"username": "bob@corp", "password": "of bob"})).await;
    }
    slapd.start();
    bench.api.login("bob@corp", "of bob").await;

    // Switched off, its users are out; the cluster's own are not touched.
    let mut off = spec;
    off["enabled"] = false.into();
    bench.api.ok(Method::PATCH, &place, Some(json!({"spec": off}))).await;
    bob.refused(401, Method::GET, "/session", None).await;
    refused(&bench, 401, json!({"username": "bob@corp", "password": "of bob"})).await;
    assert_eq!(bench.api.get("/session/realms").await.as_array().unwrap().len(), 1);
    bench.api.ok(Method::DELETE, &place, None).await;
    assert_eq!(bench.api.get("/users").await["items"].as_array().unwrap().len(), 1);
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_tried_and_every_fault_is_told() {
    let slapd = Slapd::new();
    let bench = Bench::new().await;
    let admins = group(&bench, "vm-admins").await;
    let mapping = json!([{"external": format!("cn=VM Admins,ou=groups,{BASE}"), "group": admins}]);
    let spec = |source: Value| json!({"enabled": false, "groups": mapping, "source": source});
    let corp = provider(&bench, spec(slapd.source())).await;
    let place = format!("/identity-providers/{corp}");
    let test = async |source: Value, user: Value| {
        let body = json!({"spec": spec(source), "secret": SERVICE_PASSWORD});
        bench.api.ok(Method::PATCH, &place, Some(body)).await;
        bench.api.ok(Method::POST, &format!("{place}/test"), Some(user)).await
    };
    let eve = json!({"username": "eve", "password": EVE});
    let with = |changes: Value| {
        let mut source = slapd.source();
        source.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        source
    };

    // TLS from the first byte, StartTLS, a pinned certificate; groups by search; users by template.
    let start_tls = with(json!({"servers": [slapd.url(false)]}));
    let pinned = with(json!({"ca": null, "certificate_sha256": slapd.pin}));
    let searched = with(json!({"group_filter": "(&(objectClass=groupOfNames)(member={dn}))"}));
    let template = with(json!({"user_dn": format!("uid={{user}},ou=people,{BASE}")}));
    for source in [slapd.source(), start_tls, pinned, searched, template] {
        let found = test(source.clone(), eve.clone()).await;
        assert_eq!(
            (found["passed"].as_bool(), &found["groups"]),
            (Some(true), &json!([admins])),
            "{source} {found}"
        );
        assert_eq!(
            (found["username"].as_str(), found["full_name"].as_str()),
            (Some("eve@corp"), Some("Eve Example"))
        );
        assert!(!found.to_string().contains(EVE));
    }
    let bob = test(slapd.source(), json!({"username": "bob"})).await;
    assert_eq!((bob["passed"].as_bool(), &bob["groups"]), (Some(true), &json!([])), "{bob}");

    for (changes, user, why) in [
        (json!({"ca": null}), json!({}), "no TLS"),
        (json!({"ca": null, "servers": [slapd.url(false)]}), json!({}), "no TLS"),
        (json!({"ca": null, "certificate_sha256": "0".repeat(64)}), json!({}), "another certificate"),
        (json!({"servers": ["ldaps://127.0.0.1:1"]}), json!({}), "cannot be reached"),
        (json!({"servers": [slapd.url(false).replace("ldap://", "ldaps://")]}), json!({}), "no TLS"),
        (json!({"bind_dn": "cn=else,dc=example,dc=org"}), json!({}), "service account is not let in"),
        (
            json!({"user_filter": "(|(uid={user})(objectClass=inetOrgPerson))"}),
            eve.clone(),
            "more than one user",
        ),
        (json!({}), json!({"username": "nobody"}), "no user `nobody`"),
        (json!({}), json!({"username": "eve", "password": "wrong"}), "password is wrong"),
        (json!({}), json!({"username": "eve", "password": ""}), "password is wrong"),
    ] {
        let found = test(with(changes.clone()), user).await;
        assert_eq!(found["passed"], false, "{changes} {found}");
        assert!(found["failure"].as_str().unwrap().contains(why), "{changes} {found}");
    }
    // Switched off, nobody logs in by it, however right the password is.
    refused(&bench, 401, json!({"username": "eve@corp", "password": EVE})).await;

    // A secret is not carried to another server, and what cannot be taken apart is refused by name.
    let elsewhere = json!({"spec": spec(with(json!({"servers": ["ldaps://evil.example.org"]})))});
    let problem = bench.api.refused(422, Method::PATCH, &place, Some(elsewhere)).await;
    assert_eq!(problem["errors"][0]["field"], "secret");
    let broken = json!({"spec": spec(with(json!({"user_filter": "(uid={user}"})))});
    let problem = bench.api.refused(422, Method::PATCH, &place, Some(broken)).await;
    assert_eq!(problem["errors"][0]["field"], "spec.source.user_filter");
    let unknown = json!({"name": "x", "spec": {"groups": [{"external": "*", "group": corp}], "source": slapd.source()}, "secret": "s"});
    let problem = bench.api.refused(422, Method::POST, "/identity-providers", Some(unknown)).await;
    assert_eq!(problem["errors"][0]["field"], "spec.groups[0].group");
    for name in ["local", "Local", "CORP", ""] {
        let body = json!({"name": name, "spec": spec(slapd.source()), "secret": "s"});
        let (status, _) = bench.api.call(Method::POST, "/identity-providers", Some(body)).await;
        assert!(status.is_client_error(), "{name}");
    }
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_a_directory_are_limited_like_others() {
    let slapd = Slapd::new();
    let bench = Bench::new().await;
    let admins = group(&bench, "vm-admins").await;
    provider(&bench, json!({"groups": [{"external": "*", "group": admins}], "source": slapd.source()})).await;
    for _ in 0..5 {
        refused(&bench, 401, json!({"username": "bob@corp", "password": "guess"})).await;
    }
    let problem =
        refused(&bench, 429, json!({"username": "bob", "realm": "corp", "password": "of bob"})).await;
    assert!(problem["detail"].as_str().unwrap().contains("too many failed attempts"), "{problem}");
    bench.daemon.unwrap().stop().await;
}
