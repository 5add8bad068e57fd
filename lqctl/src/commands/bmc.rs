//! The BMCs of hosts.

use super::Session;
use crate::{
    cli,
    failure::usage,
    output::{age, describe, line, or_dash},
    terminal::{confirm, interactive},
};
use lq_api::{
    HostId,
    bmc::{Bmc, BmcSpec, SetBmc, TestBmc},
};

pub(super) async fn run(session: &Session, command: cli::Bmc) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        cli::Bmc::Show { host } => {
            let bmc = client.bmc(client.find_host(&host).await?.meta.id).await?;
            describe(session.format, &bmc, &fields(&bmc))
        }
        cli::Bmc::Set(wanted) => {
            let host = client.find_host(&wanted.host).await?;
            let set = settings(session, host.meta.id, wanted).await?;
            let bmc = client.set_bmc(host.meta.id, &set).await?;
            describe(session.format, &bmc, &fields(&bmc))
        }
        cli::Bmc::Test { host } => {
            let host = client.find_host(&host).await?;
            let test = client.test_bmc(host.meta.id, &TestBmc::default()).await?;
            let fields = [
                ("Power", or_dash(test.power)),
                ("Machine", or_dash(test.machine.clone())),
                ("Presents", or_dash(test.presented.clone())),
                ("Failure", test.failure.clone().unwrap_or_default()),
            ];
            describe(session.format, &test, &fields)?;
            anyhow::ensure!(test.failure.is_none(), "the BMC of host {} does not do", host.meta.name);
            Ok(())
        }
        cli::Bmc::Clear { host, yes } => {
            let host = client.find_host(&host).await?;
            let question = format!(
                "Forget the BMC of host {}? If the host is lost, its machines wait until their leases are over.",
                host.meta.name
            );
            confirm(&question, yes)?;
            client.clear_bmc(host.meta.id).await?;
            line(&format!("The BMC of host {} is forgotten.\n", host.meta.name))
        }
    }
}

/// What is asked for, with a certificate somebody has looked at.
async fn settings(session: &Session, host: HostId, wanted: cli::SetBmc) -> anyhow::Result<SetBmc> {
    let mut spec = BmcSpec {
        protocol: wanted.protocol,
        address: wanted.address,
        username: wanted.user,
        certificate: wanted.certificate.map(|f| f.to_string()),
        system: wanted.system,
    };
    let password = wanted.secret;
    if spec.certificate.is_none() && spec.protocol.has_certificate() {
        let trial = SetBmc { spec: spec.clone(), password: None };
        let seen = session.client.test_bmc(host, &TestBmc { settings: Some(trial) }).await?;
        let Some(presented) = seen.presented else {
            anyhow::bail!("the BMC shows no certificate: {}", seen.failure.unwrap_or_default());
        };
        let question = format!(
            "{} presents the certificate {presented}. Is it the one the BMC itself shows?",
            spec.address
        );
        if !interactive() {
            return Err(usage(format!("{question} Then say --certificate {presented}")));
        }
        confirm(&question, false)?;
        spec.certificate = Some(presented);
    }
    Ok(SetBmc { spec, password })
}

fn fields(bmc: &Bmc) -> Vec<(&'static str, String)> {
    let Some(spec) = &bmc.spec else {
        return vec![("BMC", "none: `lqctl host bmc set` names one".into())];
    };
    let mut fields = vec![
        ("Protocol", spec.protocol.text().to_owned()),
        ("Address", spec.address.clone()),
        ("User", spec.username.clone()),
        ("Certificate", or_dash(spec.certificate.clone())),
        ("System", spec.system.clone().unwrap_or_default()),
    ];
    let Some(status) = &bmc.status else {
        fields.push(("Status", "it was not asked yet".into()));
        return fields;
    };
    fields.push(("Asked", format!("{} ago", age(status.checked_at))));
    fields.push(("Power", or_dash(status.power)));
    if let Some(since) = status.failing_since {
        fields.push(("Fails for", age(since)));
    }
    fields.push(("Failure", status.failure.clone().unwrap_or_default()));
    fields
}
