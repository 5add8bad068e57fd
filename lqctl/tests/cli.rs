//! The real `lqctl` against a real daemon: what scripts and people rely on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]

mod common;

use common::{Host, PASSWORD, Person, kernel};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

#[test]
fn exit_codes_are_as_documented() {
    let (host, admin) = Host::set_up();
    // 0: done.
    assert!(admin.ok("--version").starts_with("lqctl "));
    assert!(admin.ok("whoami").contains("admin"));
    // 1: refused, or there is no such thing.
    assert!(admin.fails(1, "vm show ghost").contains("there is no VM called `ghost`"));
    admin.ok("network create lan");
    assert!(admin.fails(1, "network create lan").contains("lan"));
    // 2: wrong usage; whether the parser or the command sees it.
    admin.fails(2, "vm explode");
    admin.fails(2, "vm create web --memory 1X");
    assert!(admin.fails(2, "network delete lan").contains("--yes"), "it must not be done unasked");
    assert_eq!(admin.json("network list").as_array().unwrap().len(), 2);
    admin.fails(2, "network update lan");
    assert!(admin.fails(2, "image upload /nowhere/x.raw").contains("/nowhere/x.raw"));
    // 3: nothing there, or not the host that was expected.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let fingerprint = host.fingerprint();
    let gone = format!("--url https://{free} --fingerprint {fingerprint} --token x vm list");
    assert!(admin.fails(3, &gone).contains(&free.to_string()));
    let wrong = format!("--url {} --fingerprint {} --token x vm list", host.url(), "AB:".repeat(31) + "AB");
    assert!(admin.fails(3, &wrong).contains(&fingerprint), "it says what was presented");
    // 4: no session, none any more, or none that counts.
    let nobody = Person::new();
    assert!(nobody.fails(4, "vm list").contains("lqctl login"));
    nobody.fails(4, &format!("--url {} --fingerprint {fingerprint} --token lqt_x vm list", host.url()));
    admin.ok("logout");
    admin.fails(4, "vm list");
}

#[test]
fn a_certificate_is_pinned_at_first_use_and_a_changed_one_refused() {
    let (mut host, admin) = Host::set_up();
    let url = host.url();
    let first = host.fingerprint();

    // Without a terminal nothing is trusted unasked, and no password is sent.
    let person = Person::new();
    let refused = person.words(&format!("login {url}")).input(PASSWORD).fails(2);
    assert!(refused.contains(&first) && refused.contains("--fingerprint"), "{refused}");
    assert!(!person.profiles().exists());
    // At one it asks; `no` keeps nothing.
    let mut login = person.words(&format!("login {url}")).env("LQ_PASSWORD", PASSWORD).at_terminal();
    login.said.until("Is it the one the host's console shows?");
    assert!(login.said.text().contains(&first));
    login.type_in("n\n");
    assert_eq!(login.ended(), 2);
    assert!(!person.profiles().exists());
    // `yes` pins it for this profile, also for the next login; not for another profile.
    for profile in ["default", "other"] {
        let line = format!("--profile {profile} login {url}");
        let mut login = person.words(&line).env("LQ_PASSWORD", PASSWORD).at_terminal();
        login.said.until("Is it the one the host's console shows?");
        login.type_in("y\n");
        assert_eq!(login.ended(), 0, "{profile}");
        person.ok(&format!("--profile {profile} whoami"));
        person.words(&line).env("LQ_PASSWORD", PASSWORD).ok();
    }
    let wrong = person.words(&format!("login {url}")).env("LQ_PASSWORD", "wrong horse battery").fails(4);
    assert!(!wrong.contains("wrong horse"), "{wrong}");

    // The host gets another certificate.
    let name = admin.json("host list")[0]["meta"]["name"].as_str().unwrap().to_owned();
    assert!(admin.fails(2, &format!("host certificate {name}")).contains(&name), "it asks for the name");
    admin.ok(&format!("host certificate {name} --yes"));
    host.start_again();
    let second = host.fingerprint();
    assert_ne!(first, second);
    let refused = person.fails(3, "whoami");
    assert!(refused.contains(&first) && refused.contains(&second), "{refused}");
    let refused = person.words(&format!("login {url}")).env("LQ_PASSWORD", PASSWORD).fails(2);
    assert!(
        refused.contains("WARNING") && refused.contains(&first) && refused.contains(&second),
        "{refused}"
    );
    person.fails(3, "--profile other whoami");
    // Looked at and accepted, it holds for that profile.
    let mut login = person.words(&format!("login {url}")).env("LQ_PASSWORD", PASSWORD).at_terminal();
    login.said.until("WARNING");
    login.type_in("y\n");
    assert_eq!(login.ended(), 0);
    person.ok("whoami");
    person.fails(3, "--profile other whoami");
}

#[test]
fn the_same_in_three_forms() {
    let (_host, admin) = Host::set_up();
    admin.ok("network create lan --label tier=back");
    let table = admin.ok("network list");
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].contains("DHCP"), "{table}");
    assert!(lines.iter().any(|l| l.starts_with("lan ")), "{table}");
    let json = admin.json("network list");
    assert_eq!(json.as_array().unwrap().len(), 2);
    let yaml = admin.ok("network list -o yaml");
    assert!(
        yaml.starts_with("- meta:") && yaml.contains("name: lan") && yaml.contains("tier: back"),
        "{yaml}"
    );
    assert_eq!(admin.json("network list --label tier=back").as_array().unwrap().len(), 1);
    let one = admin.json("network show lan");
    assert_eq!(one["meta"]["labels"], json!({"tier": "back"}));
    // By its id too.
    let id = one["meta"]["id"].as_str().unwrap();
    assert_eq!(admin.json(&format!("network show {id}")), one);
    assert!(admin.ok("network show lan").contains("tier=back"));
    admin.fails(2, "network list -o xml");
    // Whoever reads no more is no fault.
    let pipe = format!("{} network list | head -c 0", env!("CARGO_BIN_EXE_lqctl"));
    let status = Command::new("sh").args(["-c", &pipe]).env("XDG_CONFIG_HOME", admin.home.path()).status();
    assert!(status.unwrap().success());
}

#[test]
fn images_are_uploaded_with_their_checksum() {
    let (host, admin) = Host::set_up();
    let content = kernel();
    let file = host.file("vmlinuz", &content);
    let sum = hex::encode(Sha256::digest(&content));
    let line = format!("image upload {file} --name k --kind kernel");
    // A wrong one is refused, and nothing is left.
    let wrong = admin.fails(1, &format!("{line} --sha256 {}", "0".repeat(64)));
    assert!(wrong.contains("sha256") || wrong.contains("SHA-256"), "{wrong}");
    let bad = admin.fails(1, &format!("{line} --sha256 abc"));
    assert!(bad.contains("spec.sha256"), "{bad}");
    assert_eq!(admin.json("image list"), json!([]));
    admin.ok(&format!("{line} --sha256 {sum}"));
    let image = admin.json("image show k");
    assert_eq!(image["status"]["sha256"], json!(sum));
    assert_eq!(image["status"]["state"], "ready");
    assert!(admin.fails(1, &line).contains('k'), "the name is taken");
    // What is no kernel is not kept as one.
    let text = host.file("text", b"no kernel at all");
    admin.fails(1, &format!("image upload {text} --name t --kind kernel"));
    assert_eq!(admin.json("image list").as_array().unwrap().len(), 1);
    admin.ok("image set k --name kernel --label os=linux");
    assert_eq!(admin.json("image show kernel")["meta"]["labels"], json!({"os": "linux"}));
    admin.fails(2, "image delete kernel");
    admin.ok("image delete kernel --yes");
    assert_eq!(admin.json("image list"), json!([]));
}

#[test]
fn a_machine_lives_and_its_console_is_a_pipe() {
    let (host, admin) = Host::set_up();
    let kernel = host.file("vmlinuz", &kernel());
    admin.ok(&format!("image upload {kernel} --name k --kind kernel"));
    let created = admin.ok("vm create web --kernel k --disk-size 8M --network default --start");
    assert_eq!(created, "VM web running.\n", "it waits until it runs");
    assert!(admin.json("vm show web")["status"]["pid"].is_u64());

    let mut console = admin.words("vm console web").started();
    console.shown.until("Welcome to web!");
    console.type_in("hello\r");
    console.shown.until("echo: hello");

    assert_eq!(admin.ok("vm pause web"), "VM web paused.\n");
    assert_eq!(admin.ok("vm resume web"), "VM web resumed.\n");
    assert_eq!(admin.ok("vm reset web"), "VM web reset.\n");
    assert!(admin.ok("vm stats web").contains("disk0"));
    assert!(admin.ok("vm list").contains("running"));
    assert!(admin.fails(1, "vm delete web --yes").contains("409"), "it runs");
    assert_eq!(admin.ok("vm stop web"), "VM web stopped.\n");
    // Ordered only: the answer is at once a task.
    let task = admin.json("vm start web --no-wait");
    assert_eq!(task["kind"], "vm.start");
    let task = admin.json(&format!("task watch {}", task["id"].as_str().unwrap()));
    assert_eq!(task["state"], "succeeded");
    console.type_in("deaf\r");
    console.shown.until("deaf\r\n# ");
    // A guest that does not listen is waited for no longer than is said.
    let late = admin.fails(1, "vm stop web --grace 3600 --timeout 1");
    assert!(late.contains("did not happen within 1s"), "{late}");
    admin.ok("vm stop web --force");
    admin.ok("vm delete web --volumes --yes");
    assert_eq!((admin.json("vm list"), admin.json("volume list")), (json!([]), json!([])));
    console.said.until("closed the console");
    assert_eq!(console.ended(), 0);
    assert!(admin.ok("event list --kind vm.").contains("vm.started"));
}

#[test]
fn errors_name_the_field() {
    let (_host, admin) = Host::set_up();
    for (line, field) in [
        ("vm create web --memory 3M", "spec.memory_bytes"),
        ("vm create web --cpus 0", "spec.vcpus"),
        ("vm create bad/name", "name"),
        ("vm create web --label a=b,c", "labels.a"),
        ("user create eve --no-password --full-name x --label =b", "label"),
        (
            "network create lan --dhcp-subnet 192.168.1.0/24 --dhcp-first 10.0.0.1 --dhcp-last 10.0.0.2",
            "spec.dhcp",
        ),
        ("volume create data --size 1T --pool ghost", "pool"),
        ("pool create nas --nfs nas:/srv --nconnect 99", "spec.options.nconnect"),
        ("vm create web --volume ghost", "volume"),
    ] {
        let done = admin.words(line).done();
        assert!(matches!(done.code, 1 | 2), "{line}: {done:?}");
        assert!(done.err.contains(field) && done.out.is_empty(), "{line}: {done:?}");
    }
    assert_eq!(admin.json("vm list"), json!([]));
    assert_eq!(admin.json("volume list"), json!([]));
}

#[test]
fn completion_loads_and_completes_in_bash() {
    let person = Person::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(person.ok(&format!("completion {shell}")).contains("lqctl"), "{shell}");
    }
    let script = person.home.path().join("lqctl.bash");
    std::fs::write(&script, person.ok("completion bash")).unwrap();
    let bash = |text: &str| {
        let output =
            Command::new("bash").args(["-norc", "-c", text]).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{text}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let script = script.display();
    bash(&format!("bash -n {script}"));
    let asked = |words: &str, number: usize| {
        bash(&format!(
            "source {script}; COMP_WORDS=({words}); COMP_CWORD={number}; \
             _lqctl lqctl \"${{COMP_WORDS[{number}]}}\" \"${{COMP_WORDS[{number}-1]}}\"; echo \"${{COMPREPLY[*]}}\""
        ))
    };
    assert_eq!(asked("lqctl vm sta", 2).trim(), "start stats");
    assert!(asked("lqctl vm create --net", 3).contains("--network"));
    assert!(asked("lqctl host maintenance x ''", 4).contains("on off"));
}

#[test]
fn manual_pages_render() {
    let person = Person::new();
    let pages = person.home.path().join("man1");
    std::fs::create_dir(&pages).unwrap();
    let page = |name: &str| pages.join(name);
    person.run(&["man", pages.to_str().unwrap()]).ok();
    let found = std::fs::read_dir(&pages).unwrap().count();
    assert!(found > 100, "{found} pages");
    let text = std::fs::read_to_string(page("lqctl-vm-create.1")).unwrap();
    for part in [".TH", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A formatter of manual pages is on most computers people work on, not on all that build.
    let mut man = Command::new("man");
    man.args(["--warnings", "-l"])
        .arg(page("lqctl-vm-create.1"))
        .env("MANPAGER", "cat")
        .env("MANWIDTH", "100");
    if let Ok(output) = man.output()
        && output.status.success()
    {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("disk-from-image"), "{text}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
