//! What commands make of objects, and following them, on a running daemon.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Host, PASSWORD, kernel};
use serde_json::json;

#[test]
fn a_machine_is_changed_in_every_way_the_api_knows() {
    let (host, admin) = Host::set_up();
    let kernel = host.file("vmlinuz", &kernel());
    admin.ok(&format!("image upload {kernel} --name k --kind kernel"));
    for volume in ["a", "b"] {
        admin.ok(&format!("volume create {volume} --size 8M"));
    }
    admin.ok("network create lan");
    let id = |line: &str| admin.json(line)["meta"]["id"].clone();
    admin.ok(
        "vm create web --kernel k --volume a,ro,ops=500/1000 --network default,cable=out --cdrom none --near app=db \
         --watchdog reset --rng off --tpm on",
    );
    let spec = admin.json("vm show web")["spec"].clone();
    let limits = json!({"bandwidth": null, "operations": {"per_second": 500, "burst": 1000}});
    assert_eq!(spec["disks"], json!([{"volume": id("volume show a"), "read_only": true, "limits": limits}]));
    assert_eq!(spec["nics"][0]["connected"], false);
    assert_eq!(spec["placement"]["near"], json!([{"label": "app=db", "strict": true}]));
    assert_eq!((&spec["watchdog"], &spec["rng"]), (&json!("reset"), &json!(false)));
    assert_eq!(spec["tpm"], true);
    assert!(admin.ok("vm show web").contains("TPM"));
    assert_eq!(spec["cdroms"], json!([{}]));
    let mac = spec["nics"][0]["mac"].as_str().unwrap().to_owned();

    let node = admin.json("host list")[0]["meta"]["name"].as_str().unwrap().to_owned();
    admin.ok(&format!(
        "vm set web --name www --label app=web --cpus 2 --memory 256M --memory-max 1G --cpus-max 8 --cpu x86-64-v2 --cmdline quiet --attach b,bandwidth=1M \
         --disk a,rw,ops=none --nic {mac},network=lan,cable=in,receive=10M --add-nic default --add-cdrom none --watchdog off \
         --rng on --tpm off --restart always --autostart off --ha high --host {node} --drop-rule app=db --prefer-apart app=web"
    ));
    let vm = admin.json("vm show www");
    let spec = &vm["spec"];
    assert_eq!(vm["meta"]["labels"], json!({"app": "web"}));
    assert_eq!((&spec["vcpus"], &spec["memory_bytes"]), (&json!(2), &json!(256 << 20)));
    assert_eq!((&spec["vcpus_max"], &spec["memory_max_bytes"]), (&json!(8), &json!(1 << 30)));
    assert_eq!((&spec["cpu"], &spec["boot"]["cmdline"]), (&json!("x86-64-v2"), &json!("quiet")));
    assert_eq!(spec["disks"][0]["read_only"], false);
    assert!(spec["disks"][0].get("limits").is_none(), "{spec}");
    assert_eq!(spec["disks"][1]["limits"]["bandwidth"]["per_second"], 1 << 20);
    let nic = &spec["nics"][0];
    assert_eq!((&nic["network"], &nic["mac"]), (&id("network show lan"), &json!(mac)));
    assert_eq!(nic["limits"]["receive"]["bandwidth"]["per_second"], 10 << 20);
    assert_eq!((spec["nics"].as_array().unwrap().len(), spec["cdroms"].as_array().unwrap().len()), (2, 2));
    assert!(spec.get("watchdog").is_none_or(serde_json::Value::is_null));
    assert!(spec.get("tpm").is_none());
    assert_eq!((&spec["restart"], &spec["autostart"]), (&json!("always"), &json!(false)));
    assert_eq!(spec["ha"], json!({"priority": "high"}));
    let wanted =
        json!({"host": id(&format!("host show {node}")), "apart": [{"label": "app=web", "strict": false}]});
    assert_eq!(spec["placement"], wanted);
    let shown = admin.ok("vm show www");
    for text in [
        "app=web where it can be",
        "receives at most 10 MiB/s",
        "x86-64-v2",
        "256 MiB, up to 1 GiB while it runs",
    ] {
        assert!(shown.contains(text), "{text}: {shown}");
    }

    let data = host.file("user-data", b"#cloud-config\nusers: []\n");
    admin.ok(&format!("vm set www --user-data {data}"));
    admin.words("vm set www --network-config -").input("version: 2\n").ok();
    let told = json!({"user_data": "#cloud-config\nusers: []\n", "network_config": "version: 2\n"});
    assert_eq!(admin.json("vm show www")["spec"]["cloud_init"], told);
    let wrong = admin.words("vm set www --user-data -").input("users: []\n").fails(1);
    assert!(wrong.contains("spec.cloud_init.user_data"), "{wrong}");
    admin.ok("vm set www --no-cloud-init");
    assert!(admin.json("vm show www")["spec"].get("cloud_init").is_none());

    admin.ok(
        "vm set www --detach b --remove-nic 0 --remove-cdrom 0 --any-host --firmware --ha off --unlabel app \
         --memory-max none --cpus-max none",
    );
    let spec = admin.json("vm show www")["spec"].clone();
    assert_eq!((spec["disks"].as_array().unwrap().len(), spec["nics"].as_array().unwrap().len()), (1, 1));
    assert!(spec.get("vcpus_max").is_none_or(serde_json::Value::is_null));
    assert!(spec.get("memory_max_bytes").is_none_or(serde_json::Value::is_null));
    assert!(spec.get("boot").is_none_or(serde_json::Value::is_null));

    // Wrong usage changes nothing and says what is wrong.
    for (line, why) in [
        ("vm set www", "nothing would change"),
        ("vm set www --cpus 2", "nothing would change"),
        ("vm set www --disk a", "what is to be different"),
        ("vm set www --detach b --cpus 3", "not attached"),
        ("vm set www --nic 7,cable=in", "no interface 7"),
        ("vm set www --cdrom 9=none", "no CD drive 9"),
        ("vm set www --unlabel app", "no label"),
        ("vm set www --cmdline x", "--kernel"),
        ("vm set www --attach b,fast", "bandwidth=SIZE"),
    ] {
        let said = admin.fails(2, line);
        assert!(said.contains(why), "{line}: {said}");
    }
    assert!(admin.fails(1, "vm set www --memory 3M").contains("spec.memory_bytes"));
    assert_eq!(admin.json("vm show www")["spec"], spec);
}

#[test]
fn changes_are_shown_as_they_happen() {
    let (host, admin) = Host::set_up();
    let kernel = host.file("vmlinuz", &kernel());
    admin.ok(&format!("image upload {kernel} --name k --kind kernel"));
    admin.ok("vm create web --kernel k");
    admin.ok("network create lan --label site=a");
    let list = admin.words("network list --label site=a --watch").started();
    list.shown.until("lan");
    assert!(!list.shown.text().contains("default"), "{}", list.shown.text());
    let json = admin.words("network list --watch -o json").started();
    json.shown.until("\"lan\"");
    let one = admin.words("network show lan --watch").started();
    one.shown.until("site=a");
    let all = admin.words("watch network volume").started();
    let events = admin.words("event follow --kind vm. --target vm/web -o json").started();
    let users = admin.words("user list --watch").started();
    users.shown.until("admin");
    // The stream has begun when the list is shown.
    admin.ok("vm start web");
    let tasks = admin.words("task list --target vm/web --watch -o json").started();
    tasks.shown.until("vm.start");
    admin.ok("vm stop web --force");
    tasks.shown.until("vm.stop");

    // Whether the followers are there is seen by what they tell: until then it is changed again.
    let mut n = 0;
    while ["lan", "volume"].iter().any(|t| !all.shown.text().contains(t)) || events.shown.text().is_empty() {
        n += 1;
        assert!(n < 100, "{} {}", all.shown.text(), events.shown.text());
        admin.ok(&format!("network update lan --label n={n}"));
        admin.ok(&format!("volume create v{n} --size 8M"));
        admin.ok("vm start web");
        admin.ok("vm stop web --force");
    }
    one.shown.until(&format!("n={n}"));
    list.shown.until("lan");
    admin.ok("network create other --label site=b");
    admin.ok("network update lan --label site=b");
    list.shown.until("lan is gone");
    assert!(!list.shown.text().contains("other"), "{}", list.shown.text());
    admin.ok("network delete lan --yes");
    one.said.until("it is gone");
    assert_eq!(one.ended(), 0);
    all.shown.until("gone");
    let last = json.shown.text();
    for line in last.lines() {
        let change: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(change["kind"], "network", "{line}");
    }
    let last = tasks.shown.text();
    let whole = last.rsplit_once('\n').unwrap().0;
    let told: Vec<serde_json::Value> = whole.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for (n, change) in told.iter().enumerate() {
        assert_eq!(
            (&change["kind"], change["object"]["target"].is_string()),
            (&json!("task"), true),
            "{last}"
        );
        let again = |c: &&serde_json::Value| c["object"] == change["object"];
        assert_eq!(told[..n].iter().find(again), None, "{last}");
    }
    admin.ok("user create ann --no-password");
    users.shown.until("ann");
    admin.ok("user delete ann --yes");
    users.shown.until("ann is gone");
    for started in [list, json, all, events, users, tasks] {
        started.kill();
    }
}

#[test]
fn profiles_are_chosen_and_forgotten() {
    let (host, admin) = Host::set_up();
    let login = format!("login {} --fingerprint {}", host.url(), host.fingerprint());
    admin.words(&format!("{login} --profile second")).env("LQ_PASSWORD", PASSWORD).ok();
    let list = admin.json("profile list");
    assert_eq!((&list[0]["name"], &list[0]["used"]), (&json!("default"), &json!(true)));
    assert_eq!((&list[1]["name"], &list[1]["used"]), (&json!("second"), &json!(false)));
    assert!(!list.to_string().contains("lqs_") && list[0].get("token").is_none(), "secrets stay: {list}");
    admin.ok("profile use second");
    assert_eq!(admin.json("profile list")[1]["used"], true);
    admin.ok("profile delete default --yes");
    // The session of the forgotten one has ended; the other's goes on.
    assert_eq!(admin.json("session list").as_array().unwrap().len(), 1);
    assert!(admin.fails(2, "profile use default2").contains("default2"));
    admin.fails(2, "profile delete second");
    admin.ok("profile delete second --yes");
    admin.fails(4, "whoami");
    assert_eq!(admin.json("profile list"), json!([]));
}

#[test]
fn requests_are_told_where_wanted() {
    let (host, admin) = Host::set_up();
    let done = admin.words("-v network list").done();
    assert!(done.err.contains("lqctl: GET /api/v1/networks"), "{done:?}");
    assert!(!done.out.contains("GET"), "{done:?}");
    assert!(admin.words("network list").done().err.is_empty());
    // On the host itself, by the daemon's socket, without a profile.
    let socket = host.socket().display();
    let nobody = common::Person::new();
    assert!(nobody.ok(&format!("--socket {socket} host health")).contains("yes"));
    assert!(nobody.ok(&format!("--socket {socket} host metrics")).contains("# TYPE"));
}
