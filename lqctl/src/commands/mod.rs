//! What the words do, one module per noun.

mod access;
mod cluster;
mod console;
mod host;
mod image;
mod network;
mod vm;
mod volume;
mod watch;

use crate::{
    cli::{Cli, Command, Common, Filter},
    failure::NotLoggedIn,
    output::Format,
    profile::{Profile, Profiles},
    terminal::Line,
};
use anyhow::Context as _;
use lq_api::{
    client::{Client, Fingerprint, Wait},
    list::ListQuery,
    task::Task,
};
use std::time::Duration;

/// A client and what the person said about all commands.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) format: Format,
    wait: Option<Wait>,
}

/// Carries out the command.
pub(crate) async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { common, command } = cli;
    let session = || Session::open(&common);
    match command {
        Command::Login { address, username } => access::login(&common, &address, &username).await,
        Command::Setup { address, code } => access::setup(&common, &address, code).await,
        Command::Logout => access::logout(&common, &session()?).await,
        Command::Whoami => access::whoami(&session()?).await,
        Command::Password => access::password(&session()?).await,
        Command::Token(command) => access::token(&session()?, command).await,
        Command::Vm(command) => vm::run(&session()?, command).await,
        Command::Image(command) => image::run(&session()?, command).await,
        Command::Volume(command) => volume::run(&session()?, command).await,
        Command::Network(command) => network::run(&session()?, command).await,
        Command::Host(command) => host::run(&session()?, command).await,
        Command::Pool(command) => host::pool(&session()?, command).await,
        Command::Cluster(command) => cluster::run(&session()?, command).await,
        Command::Task(command) => watch::task(&session()?, command).await,
        Command::Event(command) => watch::event(&session()?, command).await,
    }
}

impl Session {
    fn open(common: &Common) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(common.timeout);
        let wait = (!common.no_wait).then_some(Wait { limit, ..Wait::default() });
        Ok(Self { client: client(common)?, format: common.output, wait })
    }

    /// How long to wait for what has to be done before the next step.
    pub(crate) fn patience(&self) -> Wait {
        self.wait.unwrap_or_default()
    }

    /// Follows an order until it is carried out, unless the person does not want to wait.
    pub(crate) async fn follow(&self, task: Task) -> anyhow::Result<Task> {
        let Some(wait) = self.wait else { return Ok(task) };
        if task.state.ended() {
            // Still asked for: an ended task may have failed.
            return Ok(self.client.wait_task(task.id, wait, |_| {}).await?);
        }
        let mut line = Line::new();
        Ok(self.client.wait_task(task.id, wait, |task| line.task(task)).await?)
    }
}

fn client(common: &Common) -> anyhow::Result<Client> {
    if let Some(socket) = &common.socket {
        let client = Client::unix(socket)?;
        client.set_token(common.token.clone());
        return Ok(client);
    }
    let profiles = Profiles::load(Profiles::path()?)?;
    let saved = profiles.get(&common.profile);
    let (url, fingerprint) = match (&common.url, common.fingerprint, saved) {
        (Some(url), Some(fingerprint), _) => (url.clone(), fingerprint),
        (None, Some(fingerprint), Some(saved)) => (saved.url.clone(), fingerprint),
        (_, None, Some(saved)) => (saved.url.clone(), pinned(saved)?),
        _ => return Err(NotLoggedIn.into()),
    };
    // A saved session is for the saved host only.
    let token = match (&common.token, &common.url, saved) {
        (Some(token), ..) => token.clone(),
        (None, None, Some(Profile { token: Some(token), .. })) => token.clone(),
        _ => return Err(NotLoggedIn.into()),
    };
    Ok(Client::new(&url, fingerprint)?.with_token(token))
}

fn pinned(profile: &Profile) -> anyhow::Result<Fingerprint> {
    profile.fingerprint.parse::<Fingerprint>().map_err(anyhow::Error::msg).context("the profile is damaged")
}

impl From<Filter> for ListQuery {
    fn from(filter: Filter) -> Self {
        let labels: Vec<_> = filter.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self { label: (!labels.is_empty()).then(|| labels.join(",")), ..Self::default() }
    }
}

/// Labels as the API wants them.
fn labels(pairs: Vec<(String, String)>) -> std::collections::BTreeMap<String, String> {
    pairs.into_iter().collect()
}

/// Labels as people read them.
fn shown(labels: &std::collections::BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}
