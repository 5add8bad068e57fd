//! Who may do what, on the running daemon: every endpoint × every role, scopes, and that nobody becomes more than they are.
//!
//! `UPDATE_ACCESS_TABLE=1` writes `access.table` anew from what the daemon does; the difference is to be read with care.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Api, Bench, PASSWORD, id};
use lq_mgmtd::http::openapi;
use reqwest::{Method, header};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

/// From the least to the most, so that what the last one may destroy is there for all others.
const ROLES: [&str; 5] = ["(none)", "vm-user", "auditor", "operator", "administrator"];

/// One object of each kind, by the first part of its path.
async fn objects(api: &Api) -> BTreeMap<&'static str, String> {
    let (vm, volume) = api.vm("one").await;
    let task = api.ok(Method::POST, &format!("/vms/{vm}/start"), None).await;
    api.ended(&task).await;
    let image = id(&api.get("/images").await["items"][0]);
    let network = id(&api.get("/networks").await["items"][0]);
    let pool = id(&api.get("/pools").await["items"][0]);
    let host = id(&api.get("/hosts").await["items"][0]);
    let user = api.user("victim", json!([])).await;
    let group = id(&api.ok(Method::POST, "/groups", Some(json!({"name": "g"}))).await);
    let role = json!({"name": "r", "spec": {"permissions": ["vm.read"]}});
    let role = id(&api.ok(Method::POST, "/roles", Some(role)).await);
    let token = api.ok(Method::POST, "/tokens", Some(json!({"name": "t", "owner": user}))).await;
    api.login("victim", PASSWORD).await;
    let session = api.get("/sessions?name=victim").await["items"][0]["id"].as_str().unwrap().to_owned();
    BTreeMap::from([
        ("vms", vm),
        ("volumes", volume),
        ("images", image),
        ("networks", network),
        ("pools", pool),
        ("hosts", host),
        ("users", user),
        ("groups", group),
        ("roles", role),
        ("tokens", token["id"].as_str().unwrap().to_owned()),
        ("cluster", id_of_join_token(api).await),
        ("sessions", session),
        ("tasks", task["id"].as_str().unwrap().to_owned()),
    ])
}

async fn id_of_join_token(api: &Api) -> String {
    let made = api.ok(Method::POST, "/cluster/join-tokens", None).await;
    made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// What one with this role gets: `yes`, `no` (401, 403), or `hidden`: as if it did not exist.
async fn tried(
    api: &Api,
    name: &str,
    method: &str,
    path: &str,
    objects: &BTreeMap<&str, String>,
) -> &'static str {
    let kind = path.trim_start_matches('/').split('/').next().unwrap();
    let place = match objects.get(kind) {
        Some(id) => path.replace("{id}", id),
        None => path.to_owned(),
    };
    assert!(!place.contains('{'), "{path}: what is to stand in it is not known to this test");
    // Sessions that are ended or refreshed are other ones.
    let mut own = api.clone();
    let mut body = json!({});
    if path == "/session" && method == "DELETE" || path == "/session/refresh" {
        let session = own.login(name, PASSWORD).await;
        own.token = session["token"].as_str().map(str::to_owned);
        if path == "/session/refresh" {
            body = json!({"refresh_token": session["refresh_token"]});
        }
    }
    // Nothing has this revision: what is allowed is refused as stale.
    let mut request = own.request(method.parse().unwrap(), &place).header(header::IF_MATCH, "\"0\"");
    if method != "GET" {
        request = request.json(&body);
    }
    // Only the head of the answer: some never end.
    match request.send().await.unwrap().status().as_u16() {
        401 | 403 => "no",
        404 => "hidden",
        _ => "yes",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_for_every_role_is_as_the_table_says() {
    let bench = Bench::new().await;
    let admin = &bench.api;
    let objects = objects(admin).await;
    let mut callers = Vec::new();
    for (n, role) in ROLES.iter().enumerate() {
        let name = format!("caller{n}");
        let grants = match *role {
            "(none)" => json!([]),
            role => json!([{"role": admin.role(role).await, "scope": {"kind": "cluster"}}]),
        };
        admin.user(&name, grants).await;
        callers.push((name.clone(), admin.logged_in(&name).await));
    }
    let document: Value = serde_json::from_str(&openapi::document().unwrap()).unwrap();
    let mut found = String::from(
        "# Endpoint × role on the cluster: yes, no (401, 403), hidden (404 though it exists).\n",
    );
    writeln!(found, "# {:7} {:25} {}", "method", "path", ROLES.join(" ")).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if !["get", "put", "post", "patch", "delete"].contains(&method.as_str()) {
                continue;
            }
            let method = method.to_uppercase();
            write!(found, "{method:9} {path:25}").unwrap();
            for (name, api) in &callers {
                write!(found, " {:6}", tried(api, name, &method, path, &objects).await).unwrap();
            }
            found.truncate(found.trim_end().len());
            found.push('\n');
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/access.table");
    if std::env::var_os("UPDATE_ACCESS_TABLE").is_some() {
        std::fs::write(file, &found).unwrap();
    }
    let table = std::fs::read_to_string(file).unwrap_or_default();
    for (wanted, found) in table.lines().zip(found.lines()) {
        assert_eq!(found, wanted, "left is what the daemon does, right what tests/access.table says");
    }
    assert_eq!(
        found.lines().count(),
        table.lines().count(),
        "an endpoint has no row in tests/access.table, or a row none"
    );
    bench.daemon.unwrap().stop().await;
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|i| i["meta"]["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_is_all_one_sees_and_reaches() {
    let bench = Bench::new().await;
    let admin = &bench.api;
    let prod = json!({"folder": "prod"});
    let grant =
        json!([{"role": admin.role("administrator").await, "scope": {"kind": "labels", "labels": prod}}]);
    admin.user("eve", grant).await;
    let eve = admin.logged_in("eve").await;
    let (other, volume) = admin.vm("other").await;
    let kernel = id(&admin.get("/images?name=other-kernel").await["items"][0]);

    // Nothing yet, and nothing outside.
    for list in ["/vms", "/images", "/volumes", "/networks", "/pools", "/hosts", "/tasks", "/events"] {
        assert_eq!(eve.get(list).await["items"], json!([]), "{list}");
    }
    assert_eq!(names(&eve.get("/users").await), ["eve"]);
    eve.refused(403, Method::GET, "/cluster", None).await;
    eve.refused(403, Method::GET, "/audit", None).await;
    eve.refused(403, Method::POST, "/users", Some(json!({"name": "x"}))).await;
    eve.refused(404, Method::GET, &format!("/vms/{other}"), None).await;
    eve.refused(404, Method::POST, &format!("/vms/{other}/start"), None).await;
    eve.refused(404, Method::DELETE, &format!("/vms/{other}"), None).await;
    eve.refused(404, Method::GET, &format!("/vms/{other}/stats"), None).await;

    // What is made is made inside, and stays there.
    let spec = json!({"vcpus": 1, "memory_bytes": 128 << 20});
    let vm = |spec: &Value, labels: &Value| Some(json!({"name": "mine", "labels": labels, "spec": spec}));
    eve.refused(403, Method::POST, "/vms", vm(&spec, &json!({}))).await;
    let image = json!({"name": "k", "labels": prod, "spec": {"kind": "kernel", "format": "raw"}});
    let image = id(&eve.ok(Method::POST, "/images", Some(image)).await);
    let upload = eve.request(Method::PUT, &format!("/images/{image}/content")).body(common::kernel());
    assert!(upload.send().await.unwrap().status().is_success());

    // Nothing from outside is given to it, nor said to exist.
    let with = |field: &str, value: Value| {
        let mut spec = spec.clone();
        spec["boot"] = json!({"kernel": image});
        spec[field] = value;
        spec
    };
    let problem =
        eve.refused(422, Method::POST, "/vms", vm(&with("disks", json!([{"volume": volume}])), &prod)).await;
    assert_eq!(problem["errors"][0]["reason"], format!("there is no volume {volume}"));
    eve.refused(422, Method::POST, "/vms", vm(&with("boot", json!({"kernel": kernel})), &prod)).await;
    let network = id(&admin.get("/networks").await["items"][0]);
    eve.refused(422, Method::POST, "/vms", vm(&with("nics", json!([{"network": network}])), &prod)).await;
    let mine = id(&eve.ok(Method::POST, "/vms", vm(&with("rng", json!(true)), &prod)).await);
    let place = format!("/vms/{mine}");
    let since = admin.get("/vms").await["revision"].clone();
    eve.refused(403, Method::PATCH, &place, Some(json!({"labels": {"folder": "test"}}))).await;
    eve.done(Method::POST, &format!("{place}/start"), None).await;
    assert_eq!(names(&eve.get("/vms").await), ["mine"]);
    assert_eq!(names(&eve.get("/images").await), ["k"]);
    let tasks = eve.get("/tasks").await;
    assert_eq!(tasks["items"].as_array().unwrap().len(), 1, "{tasks}");

    // Rights are those of this moment, for whoever watches too.
    admin.ok(Method::PATCH, &place, Some(json!({"labels": {"folder": "test"}}))).await;
    eve.refused(404, Method::GET, &place, None).await;
    let mut watch = eve.request(Method::GET, &format!("/watch?since={since}")).send().await.unwrap();
    let text = String::from_utf8(watch.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(text.contains(&mine) && !text.contains("object"), "{text}");
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_more_than_they_are() {
    let bench = Bench::new().await;
    let admin = &bench.api;
    let permissions = json!({"permissions": ["user.read", "user.write", "vm.read"]});
    let helpdesk = json!({"name": "helpdesk", "spec": permissions});
    let helpdesk = id(&admin.ok(Method::POST, "/roles", Some(helpdesk)).await);
    let cluster = json!({"kind": "cluster"});
    admin.user("helen", json!([{"role": helpdesk, "scope": cluster}])).await;
    let helen = admin.logged_in("helen").await;
    let administrator = json!([{"role": admin.role("administrator").await, "scope": cluster}]);
    let root = id(&admin.get("/users?name=admin").await["items"][0]);
    let me = id(&helen.get("/users?name=helen").await["items"][0]);

    // Her own kind she may make and help.
    let fellow = helen.user("fellow", json!([{"role": helpdesk, "scope": cluster}])).await;
    let password = |text: &str| Some(json!({"password": text, "must_change_password": true}));
    helen.ok(Method::POST, &format!("/users/{fellow}/password"), password("a new password")).await;

    // Beyond that nothing.
    let user = |grants: &Value| Some(json!({"name": "x", "spec": {"grants": grants}}));
    helen.refused(403, Method::POST, "/users", user(&administrator)).await;
    helen
        .refused(
            403,
            Method::PATCH,
            &format!("/users/{me}"),
            Some(json!({"spec": {"grants": administrator}})),
        )
        .await;
    helen.refused(403, Method::POST, &format!("/users/{root}/password"), password("a new password")).await;
    helen.refused(403, Method::DELETE, &format!("/users/{root}/totp"), None).await;
    helen.refused(403, Method::DELETE, &format!("/users/{root}"), None).await;
    helen
        .refused(403, Method::PATCH, &format!("/users/{root}"), Some(json!({"spec": {"disabled": true}})))
        .await;
    helen.refused(403, Method::POST, "/tokens", Some(json!({"name": "t", "owner": root}))).await;
    let group = json!({"name": "admins", "spec": {"grants": administrator}});
    helen.refused(403, Method::POST, "/groups", Some(group.clone())).await;
    let group = id(&admin.ok(Method::POST, "/groups", Some(group)).await);
    let join = json!({"spec": {"members": [me], "grants": administrator}});
    helen.refused(403, Method::PATCH, &format!("/groups/{group}"), Some(join)).await;
    let more = json!({"spec": {"permissions": ["user.write", "vm.write"]}});
    helen.refused(403, Method::PATCH, &format!("/roles/{helpdesk}"), Some(more.clone())).await;
    let role = json!({"name": "mine", "spec": more["spec"]});
    helen.refused(403, Method::POST, "/roles", Some(role)).await;

    // Built-in roles and the last administrator stay, for everyone.
    let builtin = admin.role("auditor").await;
    admin.refused(409, Method::PATCH, &format!("/roles/{builtin}"), Some(more)).await;
    let disabled = json!({"spec": {"disabled": true, "grants": administrator}});
    admin.refused(409, Method::PATCH, &format!("/users/{root}"), Some(disabled)).await;
    admin.refused(409, Method::DELETE, &format!("/users/{root}"), None).await;
    admin.refused(422, Method::POST, "/users", Some(json!({"name": "a b"}))).await;
    admin.refused(409, Method::POST, "/users", Some(json!({"name": "helen"}))).await;

    // Whoever is disabled is out at once, with tokens and all.
    let token = helen.ok(Method::POST, "/tokens", Some(json!({"name": "t"}))).await;
    let mut by_token = helen.clone();
    by_token.token = token["secret"].as_str().map(str::to_owned);
    by_token.refused(403, Method::POST, "/tokens", Some(json!({"name": "u"}))).await;
    by_token
        .refused(403, Method::POST, "/session/password", Some(json!({"old": PASSWORD, "new": "another one"})))
        .await;
    assert_eq!(by_token.get("/session").await["by"], "token");
    let off = json!({"spec": {"disabled": true, "grants": [{"role": helpdesk, "scope": cluster}]}});
    admin.ok(Method::PATCH, &format!("/users/{me}"), Some(off)).await;
    helen.refused(401, Method::GET, "/session", None).await;
    by_token.refused(401, Method::GET, "/session", None).await;
    let login = json!({"username": "helen", "password": PASSWORD});
    let mut nobody = helen.clone();
    nobody.token = None;
    nobody.refused(401, Method::POST, "/session", Some(login)).await;
    bench.daemon.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_does_what_it_is_for_and_no_more() {
    let bench = Bench::new().await;
    let admin = &bench.api;
    let (vm, _) = admin.vm("one").await;
    let (other, _) = admin.vm("two").await;
    let scope = json!({"kind": "object", "object": "vm", "id": vm});
    let limit = json!({"role": admin.role("vm-user").await, "scope": scope});
    let body = json!({"name": "robot", "days": 1, "limit": limit});
    let token = admin.ok(Method::POST, "/tokens", Some(body)).await;
    let mut robot = admin.clone();
    robot.token = token["secret"].as_str().map(str::to_owned);
    robot.done(Method::POST, &format!("/vms/{vm}/start"), None).await;
    robot.refused(403, Method::DELETE, &format!("/vms/{vm}"), None).await;
    robot.refused(404, Method::POST, &format!("/vms/{other}/start"), None).await;
    assert_eq!(names(&robot.get("/vms").await), ["one"]);
    robot.refused(403, Method::POST, "/users", Some(json!({"name": "x"}))).await;
    let id = token["id"].as_str().unwrap();
    robot.refused(403, Method::DELETE, &format!("/tokens/{id}"), None).await;
    let who = robot.get("/session").await;
    assert_eq!(
        who["rights"],
        json!([{"scope": scope, "permissions": ["vm.read", "vm.power", "vm.console"]}])
    );
    admin.refused(422, Method::POST, "/tokens", Some(json!({"name": "x", "days": 0}))).await;
    let empty = json!({"role": admin.role("vm-user").await, "scope": {"kind": "labels", "labels": {}}});
    admin.refused(422, Method::POST, "/tokens", Some(json!({"name": "x", "limit": empty}))).await;
    bench.daemon.unwrap().stop().await;
}

/// The guard and the handlers once read the path differently: one percent-encoded character of an id left every rule behind.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_written_otherwise_opens_nothing() {
    let bench = Bench::new().await;
    let api = &bench.api;
    let (mine, _) = api.vm("mine").await;
    let (theirs, _) = api.vm("theirs").await;
    let grant =
        json!([{"role": api.role("vm-user").await, "scope": {"kind": "object", "object": "vm", "id": mine}}]);
    api.user("eve", grant).await;
    let eve = api.logged_in("eve").await;
    eve.get(&format!("/vms/{mine}")).await;
    let first = theirs.as_bytes()[0];
    let rest = &theirs[1..];
    for written in
        [theirs.clone(), format!("%{first:02x}{rest}"), format!("%7B{theirs}%7D"), theirs.replace('-', "%2d")]
    {
        eve.refused(404, Method::GET, &format!("/vms/{written}"), None).await;
        eve.refused(404, Method::POST, &format!("/vms/{written}/start"), None).await;
        let change = json!({"name": "owned"});
        eve.refused(404, Method::PATCH, &format!("/vms/{written}"), Some(change)).await;
    }
    bench.daemon.unwrap().stop().await;
}
