//! The cluster: its state, and how hosts come in.

use super::{Session, recovery};
use crate::{
    cli,
    output::{Table, describe, line, moment, or_dash, show, word},
    terminal::{ask, confirm},
};
use anyhow::Context as _;
use lq_api::{
    HostId, TokenId,
    balance::{BalanceMode, BalanceSpec},
    cluster::{Cluster, CreateJoinToken, JoinCluster, JoinPreview},
    ha::HaSpec,
    pairing::{OpenPairing, PairHost},
    time::TimeSpec,
    usage::UsageQuery,
    vm::MigrateVm,
};

pub(super) async fn run(session: &Session, command: cli::Cluster) -> anyhow::Result<()> {
    match command {
        cli::Cluster::Show => state(session).await,
        cli::Cluster::Usage { span, top } => {
            let query = UsageQuery { span: Some(span.into()), top: Some(top) };
            super::history::usage(session, &query).await
        }
        cli::Cluster::Ha { wanted } => ha(session, wanted).await,
        cli::Cluster::Balance { apply: Some(vm), .. } => follow_recommendation(session, &vm).await,
        cli::Cluster::Balance { mode, at_once, apply: None } => balance(session, mode, at_once).await,
        cli::Cluster::Time { servers, none } => time(session, servers, none).await,
        cli::Cluster::Token(command) => token(session, command).await,
        cli::Cluster::Join { join_token, rename, preview, yes } => {
            join(session, JoinCluster { token: join_token, rename }, preview, yes).await
        }
        cli::Cluster::Waiting => waiting(session).await,
        cli::Cluster::Pair { host, code, rename } => pair(session, &host, code, rename).await,
        cli::Cluster::Pairing { open } => pairing(session, open).await,
        cli::Cluster::Reform { lost, preview, yes } => recovery::reform(session, &lost, preview, yes).await,
        cli::Cluster::Backup(command) => recovery::backup(session, command).await,
        cli::Cluster::Restore { file, as_origin, yes } => {
            recovery::restore(session, &file, as_origin, yes).await
        }
    }
}

async fn state(session: &Session) -> anyhow::Result<()> {
    let cluster = session.client.cluster().await?;
    let name = |id: HostId| {
        cluster.members.iter().find(|m| m.host == id).map_or_else(|| id.to_string(), |m| m.name.clone())
    };
    let mut fields = vec![
        ("Id", cluster.id.to_string()),
        ("This host", name(cluster.this_host)),
        ("Leader", or_dash(cluster.leader.map(name))),
        ("Term", cluster.term.to_string()),
        ("Changes", if cluster.quorum { "possible".into() } else { "NOT possible: no majority".into() }),
        ("Revision", cluster.revision.to_string()),
        ("Epoch", cluster.epoch.to_string()),
    ];
    if let Some(lost) = &cluster.lost {
        let missing = lost.missing.iter().map(|m| {
            let heard = m.last_heard.map_or_else(|| "not heard".into(), |at| format!("last heard {at}"));
            format!("{} ({heard})", m.name)
        });
        fields.push(("Without a majority since", or_dash(lost.since)));
        fields.extend(missing.map(|m| ("Missing", m)));
        fields.extend(lost.means.iter().map(|m| ("This means", m.clone())));
        fields.push(("To do", lost.remedy.clone()));
    }
    fields.extend(cluster.warnings.iter().map(|w| ("Warning", w.clone())));
    describe(session.format, &cluster, &fields)?;
    if session.format == crate::output::Format::Table {
        line("\n")?;
        show(session.format, &cluster, || members(&cluster))?;
    }
    Ok(())
}

async fn ha(session: &Session, wanted: Option<cli::Arming>) -> anyhow::Result<()> {
    let client = &session.client;
    if let Some(wanted) = wanted {
        client.set_ha(&HaSpec { armed: wanted == cli::Arming::Arm }).await?;
    }
    let status = client.ha().await?;
    let name = |id: HostId| {
        status.hosts.iter().find(|h| h.host == id).map_or_else(|| id.to_string(), |h| h.name.clone())
    };
    let mut fields = vec![
        ("Armed", if status.spec.armed { "yes".into() } else { "no".to_owned() }),
        ("Watched by", or_dash(status.watched_by.map(name))),
    ];
    fields.extend(status.warnings.iter().map(|w| ("Warning", w.clone())));
    describe(session.format, &status, &fields)?;
    if session.format != crate::output::Format::Table {
        return Ok(());
    }
    line("\n")?;
    show(session.format, &status, || {
        let mut table = Table::new(&["HOST", "STATE", "HEARD", "LEASE OVER", "WATCHDOG", "REASON"]);
        let seconds = |ms: Option<u64>| ms.map(|ms| format!("{:.1} s", ms as f64 / 1000.0));
        for host in &status.hosts {
            let words = host.reason.iter().chain(&host.degraded).cloned().collect::<Vec<_>>();
            table.row([
                host.name.clone(),
                word(&host.state),
                or_dash(seconds(host.heard_ms_ago).map(|s| format!("{s} ago"))),
                or_dash(seconds(host.over_in_ms).map(|s| format!("in {s}"))),
                or_dash(host.watchdog.as_ref().map(|watchdog| {
                    let kind = if watchdog.hardware { "hardware" } else { "software" };
                    format!("{kind}, {} s", watchdog.seconds)
                })),
                words.join("; "),
            ]);
        }
        table
    })?;
    line("\n")?;
    show(session.format, &status, || {
        let mut table = Table::new(&["MACHINE", "PRIORITY", "HOST", "STATE", "REASON"]);
        for machine in &status.machines {
            table.row([
                machine.name.clone(),
                machine.priority.to_string(),
                or_dash(machine.host.map(name)),
                word(&machine.state),
                machine.reason.clone().unwrap_or_default(),
            ]);
        }
        table
    })
}

async fn balance(
    session: &Session,
    mode: Option<cli::Balancing>,
    at_once: Option<u32>,
) -> anyhow::Result<()> {
    let client = &session.client;
    let mut balance = client.recommendations().await?;
    if mode.is_some() || at_once.is_some() {
        let mode = mode.map_or(balance.spec.mode, |mode| match mode {
            cli::Balancing::Off => BalanceMode::Off,
            cli::Balancing::Advise => BalanceMode::Advise,
            cli::Balancing::Automatic => BalanceMode::Automatic,
        });
        let spec = BalanceSpec { mode, at_once: at_once.unwrap_or(balance.spec.at_once) };
        client.set_balance(&spec).await?;
        balance = client.recommendations().await?;
    }
    let mut fields =
        vec![("Mode", word(&balance.spec.mode)), ("Moves at once", balance.spec.at_once.to_string())];
    fields.extend(balance.rests_until.map(|at| ("Rests until", at.to_string())));
    fields.extend(balance.note.clone().map(|note| ("Note", note)));
    describe(session.format, &balance, &fields)?;
    if session.format != crate::output::Format::Table {
        return Ok(());
    }
    line("\n")?;
    show(session.format, &balance, || {
        let mut table = Table::new(&["HOST", "MEMORY", "VCPUS", "MACHINES", "LEFT ALONE"]);
        for host in &balance.hosts {
            table.row([
                host.name.clone(),
                format!("{} %", host.memory_percent),
                format!("{} %", host.vcpu_percent),
                host.machines.to_string(),
                host.left_alone.clone().unwrap_or_default(),
            ]);
        }
        table
    })?;
    if balance.items.is_empty() {
        return Ok(());
    }
    line("\n")?;
    show(session.format, &balance, || {
        let mut table = Table::new(&["MACHINE", "FROM", "TO", "GAIN", "COST", "REASON"]);
        for item in &balance.items {
            table.row([
                item.vm_name.clone(),
                item.from_name.clone(),
                item.to_name.clone(),
                item.gain.to_string(),
                item.cost.to_string(),
                item.reason.clone(),
            ]);
        }
        table
    })
}

async fn follow_recommendation(session: &Session, vm: &str) -> anyhow::Result<()> {
    let items = session.client.recommendations().await?.items;
    let item = items.iter().find(|item| item.vm_name == vm || item.vm.to_string() == vm);
    let item =
        item.with_context(|| format!("no move of `{vm}` is recommended: see `lqctl cluster balance`"))?;
    let wish = MigrateVm { host: Some(item.to), ..MigrateVm::default() };
    let task = session.client.migrate_vm(item.vm, &wish).await?;
    let task = session.follow(task).await?;
    describe(
        session.format,
        &task,
        &[("Task", task.id.to_string()), ("Outcome", or_dash(task.message.clone()))],
    )
}

async fn time(session: &Session, servers: Vec<String>, none: bool) -> anyhow::Result<()> {
    let client = &session.client;
    if none || !servers.is_empty() {
        client.set_time(&TimeSpec { servers }).await?;
    }
    let time = client.time().await?;
    describe(
        session.format,
        &time,
        &[("Servers", or_dash((!time.spec.servers.is_empty()).then(|| time.spec.servers.join(" "))))],
    )?;
    if session.format != crate::output::Format::Table {
        return Ok(());
    }
    line("\n")?;
    let ms = |value: Option<f64>| or_dash(value.map(|ms| format!("{ms:.3} ms")));
    show(session.format, &time, || {
        let mut table = Table::new(&["HOST", "FOLLOWS", "OFFSET", "WITHIN", "SERVER", "STRATUM", "NOTE"]);
        for host in &time.hosts {
            let Some(status) = &host.status else {
                let dash = || or_dash(None::<String>);
                let cells =
                    [host.name.clone(), dash(), dash(), dash(), dash(), dash(), "does not answer".into()];
                table.row(cells);
                continue;
            };
            table.row([
                host.name.clone(),
                if status.synchronised { "yes".into() } else { "no".to_owned() },
                ms(status.offset_ms),
                ms(status.error_ms),
                or_dash(status.server.clone()),
                or_dash(status.stratum),
                status.note.clone().unwrap_or_default(),
            ]);
        }
        table
    })?;
    let told = time.hosts.iter().filter_map(|h| Some((h, h.status.as_ref()?)));
    let rows: Vec<_> =
        told.flat_map(|(h, s)| s.servers.iter().map(move |server| (&h.name, server))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    line("\n")?;
    show(session.format, &time, || {
        let mut table = Table::new(&["HOST", "SERVER", "COUNTS", "OFFSET", "WAY", "STRATUM", "FAULT"]);
        for (host, server) in &rows {
            table.row([
                (*host).clone(),
                server.server.clone(),
                if server.chosen { "yes".into() } else { "no".to_owned() },
                ms(server.offset_ms),
                ms(server.delay_ms),
                or_dash(server.stratum),
                server.fault.clone().unwrap_or_default(),
            ]);
        }
        table
    })
}

fn members(cluster: &Cluster) -> Table {
    let mut table = Table::new(&["HOST", "ROLE", "ANSWERS", "LACKS", "ADDRESS"]);
    for member in &cluster.members {
        let answers = member.reachable.map(|yes| if yes { "yes" } else { "no" });
        table.row([
            member.name.clone(),
            word(&member.role),
            or_dash(answers),
            or_dash(member.lag),
            or_dash(member.address.clone()),
        ]);
    }
    table
}

async fn token(session: &Session, command: cli::JoinToken) -> anyhow::Result<()> {
    let client = &session.client;
    match command {
        cli::JoinToken::List => {
            let tokens = client.join_tokens().await?;
            show(session.format, &tokens, || {
                let mut table = Table::new(&["ID", "USES LEFT", "EXPIRES"]);
                for token in &tokens {
                    table.row([token.id.to_string(), token.uses_left.to_string(), moment(token.expires_at)]);
                }
                table
            })
        }
        cli::JoinToken::Create { minutes, uses } => {
            let made = client.create_join_token(&CreateJoinToken { minutes, uses }).await?;
            let fields = [
                ("Token", made.text.clone()),
                ("Expires", moment(made.token.expires_at)),
                ("Uses", made.token.uses_left.to_string()),
            ];
            describe(session.format, &made, &fields)
        }
        cli::JoinToken::Delete { id } => {
            let id: TokenId =
                id.parse().context("the id of a join token is a UUID; see `lqctl cluster token list`")?;
            client.delete_join_token(id).await?;
            line("The join token is revoked.\n")
        }
    }
}

async fn join(session: &Session, join: JoinCluster, only_preview: bool, yes: bool) -> anyhow::Result<()> {
    let client = &session.client;
    let preview = client.preview_join(&join).await?;
    describe(session.format, &preview, &fields(&preview))?;
    if only_preview {
        return Ok(());
    }
    confirm("Join? The users, passwords and tokens of this host end; those of the cluster hold.", yes)?;
    client.join(&join).await?;
    line("The host has joined and is starting again as a member. Log in with an account of the cluster.\n")
}

fn fields(preview: &JoinPreview) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Cluster", preview.cluster.to_string()),
        ("Hosts", preview.hosts.join(" ")),
        ("Machines", preview.machines.join(" ")),
    ];
    for renaming in &preview.renamings {
        fields.push(("New name", format!("{} {} becomes {}", renaming.kind, renaming.from, renaming.to)));
    }
    fields.extend(preview.left_out.iter().map(|n| ("Left out", format!("network {n}, which nothing uses"))));
    fields
}

async fn waiting(session: &Session) -> anyhow::Result<()> {
    let waiting = session.client.waiting_hosts().await?;
    show(session.format, &waiting, || {
        let mut table = Table::new(&["NAME", "ADDRESS", "VERSION", "ID"]);
        for host in &waiting.items {
            let version = or_dash(host.version.clone());
            table.row([host.name.clone(), host.address.clone(), version, host.host.to_string()]);
        }
        table
    })?;
    if session.format == crate::output::Format::Table && waiting.items.is_empty() {
        line(match &waiting.looked_from {
            Some(_) => "No host waits on this network. One that is elsewhere is paired by its address.\n",
            None => {
                "This host cannot look for others. Give `lqctl cluster pair` the address of the waiting host.\n"
            }
        })?;
    }
    Ok(())
}

async fn pair(session: &Session, host: &str, code: Option<String>, rename: bool) -> anyhow::Result<()> {
    let waiting = session.client.waiting_hosts().await?.items;
    let named: Vec<_> = waiting.iter().filter(|w| w.name == host || w.host.to_string() == host).collect();
    let (address, id) = match named.as_slice() {
        [one] => (one.address.clone(), Some(one.host)),
        [] => (host.to_owned(), None),
        _ => anyhow::bail!(
            "{} hosts that wait are named `{host}`: give the id of the one you mean, or its address",
            named.len()
        ),
    };
    let code = match code {
        Some(code) => code,
        None => ask("Code on the console of the host")?,
    };
    let task = session.client.pair(&PairHost { address, host: id, code, rename }).await?;
    let task = session.follow(task).await?;
    describe(
        session.format,
        &task,
        &[("Task", task.id.to_string()), ("Outcome", or_dash(task.message.clone()))],
    )
}

async fn pairing(session: &Session, open: Option<bool>) -> anyhow::Result<()> {
    let pairing = match open {
        Some(open) => session.client.open_pairing(&OpenPairing { open }).await?,
        None => session.client.pairing().await?,
    };
    let mut fields = vec![("Waits", if pairing.waiting { "yes".into() } else { "no".to_owned() })];
    fields.extend(pairing.reason.clone().map(|why| ("Because", why)));
    fields.extend(pairing.code.clone().map(|code| ("Code", code)));
    fields.extend(pairing.expires_at.map(|at| ("Another code", moment(at))));
    fields.extend(pairing.opened_until.map(|at| ("Open until", at.to_string())));
    if pairing.joining {
        fields.push(("Now", "a cluster gave the right code and is bringing it in".into()));
    }
    describe(session.format, &pairing, &fields)
}
