//! What the words do, one module per noun.

mod access;
mod account;
mod alert;
mod apply;
mod bmc;
mod cluster;
mod console;
mod create;
mod follow;
mod hardware;
mod help;
mod history;
mod host;
mod image;
mod names;
mod network;
mod pool;
mod profile;
mod provider;
mod recovery;
mod vm;
mod vnc;
mod volume;
mod watch;

use crate::{
    cli::{Cli, Command, Common},
    failure::{NotLoggedIn, usage},
    output::Format,
    profile::{Kept, Profile, Profiles},
    terminal::Line,
};
use anyhow::Context as _;
use lq_api::{
    PoolId,
    client::{Client, Fingerprint, Held, Wait},
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
    let session = async || Session::open(&common).await;
    match command {
        Command::Completion { shell } => help::completion(shell),
        Command::Man { directory } => help::manual(&directory),
        Command::Login { address, username, code, realm } => {
            access::login(&common, &address, &username, code, realm).await
        }
        Command::Setup { address, code } => access::setup(&common, &address, code).await,
        Command::Profile(command) => profile::run(&common, command).await,
        Command::Logout => access::logout(&common, &session().await?).await,
        Command::Whoami => access::whoami(&session().await?).await,
        Command::Password => access::password(&session().await?).await,
        Command::Totp(command) => account::totp(&session().await?, command).await,
        Command::User(command) => account::user(&session().await?, command).await,
        Command::Group(command) => account::group(&session().await?, command).await,
        Command::Role(command) => account::role(&session().await?, command).await,
        Command::Provider(command) => provider::run(&session().await?, command).await,
        Command::Apply(command) => apply::apply(&session().await?, command).await,
        Command::Export(command) => apply::export(&session().await?, command).await,
        Command::Session(command) => account::session(&session().await?, command).await,
        Command::Audit(command) => account::audit(&session().await?, command).await,
        Command::Token(command) => access::token(&session().await?, command).await,
        Command::Vm(command) => vm::run(&session().await?, command).await,
        Command::Image(command) => image::run(&session().await?, command).await,
        Command::Volume(command) => volume::run(&session().await?, command).await,
        Command::Network(command) => network::run(&session().await?, command).await,
        Command::Host(command) => host::run(&session().await?, command).await,
        Command::Pool(command) => pool::run(&session().await?, command).await,
        Command::Alert(command) => alert::run(&session().await?, command).await,
        Command::Channel(command) => alert::channel(&session().await?, command).await,
        Command::Cluster(command) => cluster::run(&session().await?, command).await,
        Command::Task(command) => watch::task(&session().await?, command).await,
        Command::Event(command) => watch::event(&session().await?, command).await,
        Command::Watch(wanted) => follow::watch(&session().await?, wanted).await,
    }
}

impl Session {
    /// The pool of this name, where one is named.
    async fn pool(&self, named: Option<&str>) -> anyhow::Result<Option<PoolId>> {
        match named {
            Some(name) => Ok(Some(self.client.find_pool(name).await?.meta.id)),
            None => Ok(None),
        }
    }

    /// `kind/id` of what the person calls `kind/name` or `kind/id`.
    async fn target(&self, named: Option<String>) -> anyhow::Result<Option<String>> {
        let Some(named) = named else { return Ok(None) };
        let Some((kind, name)) = named.split_once('/') else {
            return Err(usage(format!("`{named}` is not KIND/NAME, e.g. vm/web")));
        };
        let client = &self.client;
        let id = match kind {
            "vm" => client.find_vm(name).await?.meta.id.to_string(),
            "volume" => client.find_volume(name).await?.meta.id.to_string(),
            "image" => client.find_image(name).await?.meta.id.to_string(),
            "network" => client.find_network(name).await?.meta.id.to_string(),
            "pool" => client.find_pool(name).await?.meta.id.to_string(),
            "host" => client.find_host(name).await?.meta.id.to_string(),
            "user" => client.find_user(name).await?.meta.id.to_string(),
            "group" => client.find_group(name).await?.meta.id.to_string(),
            "role" => client.find_role(name).await?.meta.id.to_string(),
            // Of other kinds only the host knows.
            _ => name.to_owned(),
        };
        Ok(Some(format!("{kind}/{id}")))
    }

    async fn open(common: &Common) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(common.timeout);
        let wait = (common.wait || !common.no_wait).then_some(Wait { limit, ..Wait::default() });
        Ok(Self { client: client(common).await?, format: common.output, wait })
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

async fn client(common: &Common) -> anyhow::Result<Client> {
    if let Some(socket) = &common.socket {
        let client = told(common, Client::unix(socket)?);
        client.set_token(common.token.clone());
        return Ok(client);
    }
    let profiles = Profiles::load(Profiles::path()?)?;
    let name = profiles.used(common.profile.as_deref())?;
    let saved = profiles.get(&name);
    let (url, fingerprint) = match (&common.url, common.fingerprint, saved) {
        (Some(url), Some(fingerprint), _) => (url.clone(), fingerprint),
        (None, Some(fingerprint), Some(saved)) => (saved.url.clone(), fingerprint),
        (_, None, Some(saved)) => (saved.url.clone(), pinned(saved)?),
        _ => return Err(NotLoggedIn.into()),
    };
    let client = told(common, Client::new(&url, fingerprint)?);
    // A saved session is for the saved host only.
    match (&common.token, &common.url, saved.and_then(Profile::kept)) {
        (Some(token), ..) => Ok(client.with_token(token.clone())),
        (None, None, Some(Kept::Token(token))) => Ok(client.with_token(token)),
        (None, None, Some(Kept::Session(held))) => {
            client.resume(held, move |held| keep(&name, held)).await;
            Ok(client)
        }
        _ => Err(NotLoggedIn.into()),
    }
}

/// Longest a host is waited for that takes no more requests for the moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shorter waits are not worth a word.
const UNTOLD: Duration = Duration::from_secs(2);

/// With patience, and with every request told on standard error, where that is wanted.
fn told(common: &Common, client: Client) -> Client {
    let limit = PATIENCE.min(Duration::from_secs(common.timeout));
    let client = client.patient(limit, |wait| {
        if wait > UNTOLD {
            let seconds = wait.as_secs();
            eprintln!("lqctl: the host takes no more requests for the moment; asking again in {seconds} s");
        }
    });
    if !common.verbose {
        return client;
    }
    client.watched_by(|method, path| eprintln!("lqctl: {method} {path}"))
}

/// Keeps a refreshed session for the next command.
fn keep(name: &str, held: &Held) {
    let kept = Profiles::path().and_then(Profiles::load).and_then(|mut profiles| {
        let profile = profiles.get(name).cloned();
        profile.map_or(Ok(()), |profile| profiles.set(name, profile.with(held.clone())))
    });
    if let Err(e) = kept {
        eprintln!("lqctl: the refreshed session could not be kept, log in again next time: {e:#}");
    }
}

fn pinned(profile: &Profile) -> anyhow::Result<Fingerprint> {
    profile.fingerprint.parse::<Fingerprint>().map_err(anyhow::Error::msg).context("the profile is damaged")
}

/// Labels as the API wants them.
fn labels(pairs: Vec<(String, String)>) -> std::collections::BTreeMap<String, String> {
    pairs.into_iter().collect()
}

/// Labels as people read them.
fn shown(labels: &std::collections::BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}
