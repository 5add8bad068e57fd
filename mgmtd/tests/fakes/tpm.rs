//! The process behind a machine's TPM: listens until its monitor hangs up.

use super::FakeInit;
use lq_api::local::init::{End, Unit};
use tokio::{io::AsyncReadExt, net::UnixListener};

/// Is it; where there is something to say, it only says that and ends.
pub(super) async fn run(init: FakeInit, unit: Unit, fails: Option<&'static str>) {
    let value = |word: &str| {
        let at = unit.argv.iter().position(|w| w == word).unwrap();
        unit.argv[at + 1].clone()
    };
    if let Some(says) = fails {
        std::fs::write(unit.log.unwrap(), says).unwrap();
        return init.kill(&unit.name, End::Exited(1));
    }
    assert!(std::path::Path::new(&value("--state")).is_dir(), "its directory is there before it");
    let listener = UnixListener::bind(value("--socket")).unwrap();
    let (mut monitor, _) = listener.accept().await.unwrap();
    let _ = monitor.read(&mut [0]).await;
    init.kill(&unit.name, End::Exited(0));
}
