//! An NFS server in user space (Debian's nfs-ganesha) at a port of this computer, which machines on a segment reach at the
//! address of their gateway.

use crate::{
    paths::need,
    process::{command, kill, log_file},
    qemu::free_port,
};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{net::TcpStream, process::Child};

/// The program.
const PROGRAM: &str = "/usr/bin/ganesha.nfsd";
/// Path of the export as clients name it.
pub(crate) const EXPORT: &str = "/vm";

/// A server, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Ganesha {
    process: Child,
    /// Where it listens.
    pub(crate) port: u16,
    /// What it exports.
    pub(crate) data: PathBuf,
}

/// Whether there is the server, and the right to run it: it opens files by handle.
pub(crate) fn available() -> bool {
    // SAFETY: asks only.
    Path::new(PROGRAM).exists() && unsafe { libc::geteuid() } == 0
}

impl Ganesha {
    /// Starts it with an empty export below `dir`.
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        need(Path::new(PROGRAM), "install Debian's nfs-ganesha and nfs-ganesha-vfs")?;
        let (data, recovery) = (dir.join("export"), dir.join("recovery"));
        for path in [&data, &recovery] {
            fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
        }
        let port = free_port()?;
        let config = dir.join("ganesha.conf");
        fs::write(&config, settings(port, &data, &recovery)).context("writing the server's settings")?;
        let log = dir.join("ganesha.log");
        let mut server = command(PROGRAM);
        server.args(["-F", "-N", "NIV_EVENT", "-f"]).arg(&config);
        server.arg("-L").arg(&log).arg("-p").arg(dir.join("ganesha.pid"));
        let output = dir.join("ganesha.out");
        server.stdout(log_file(&output)?).stderr(log_file(&output)?);
        let mut process = server.spawn().context("starting the NFS server")?;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = process.try_wait()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("the NFS server ended at once ({status}): {}", said.trim_end());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { process, port, data })
    }

    /// Makes it silent, or lets it go on: connections stay, nothing is answered.
    pub(crate) fn silent(&self, silent: bool) -> Result<()> {
        let pid = self.process.id().context("the NFS server has ended")?;
        let signal = if silent { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: sends a signal to our own child, which nobody has waited for.
        if unsafe { libc::kill(pid.cast_signed(), signal) } == -1 {
            return Err(std::io::Error::last_os_error()).context("signalling the NFS server");
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) async fn end(mut self) {
        kill(&mut self.process).await;
    }
}

fn settings(port: u16, data: &Path, recovery: &Path) -> String {
    format!(
        "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
         NFSV4 {{ Graceless = true; Lease_Lifetime = 10; Grace_Period = 10; RecoveryRoot = \"{}\"; Minor_Versions = 1,2;\n\
         Only_Numeric_Owners = true; }}\n\
         NFS_KRB5 {{ Active_krb5 = false; }}\n\
         EXPORT {{ Export_Id = 1; Path = \"{}\"; Pseudo = {EXPORT}; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;\n\
         Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }} }}\n",
        recovery.display(),
        data.display()
    )
}
