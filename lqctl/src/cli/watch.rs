//! The words about what happens and happened: tasks, events, changes.

use super::Watching;
use clap::{Args, Subcommand, ValueEnum};
use lq_api::{event::EventLevel, task::TaskState};

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Every task the hosts remember, newest first.
    #[command(visible_alias = "ls")]
    List {
        /// Only tasks in this state.
        #[arg(long, value_enum)]
        state: Option<State>,
        /// Only tasks of this object: KIND/NAME or KIND/ID, e.g. vm/web.
        #[arg(long, value_name = "KIND/NAME")]
        target: Option<String>,
        #[command(flatten)]
        watching: Watching,
    },
    /// One task.
    Show {
        /// Its id.
        task: String,
    },
    /// Follow a task until it has ended; the exit code is 1 where it failed.
    Watch {
        /// Its id.
        task: String,
    },
    /// Ask a task to end.
    Cancel {
        /// Its id.
        task: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// The last events, newest first.
    #[command(visible_alias = "ls")]
    List {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        which: Which,
    },
    /// Events as they happen. Ctrl-C ends it.
    Follow {
        #[command(flatten)]
        which: Which,
    },
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only events of this object: KIND/NAME or KIND/ID, e.g. vm/web.
    #[arg(long, value_name = "KIND/NAME")]
    pub(crate) target: Option<String>,
    /// Only kinds that begin with this, e.g. `vm.`.
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// Only events at least this grave.
    #[arg(long, value_enum)]
    pub(crate) level: Option<Level>,
}

/// [`EventLevel`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
}

impl From<Level> for EventLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Info,
            Level::Warning => Self::Warning,
            Level::Error => Self::Error,
        }
    }
}

/// [`TaskState`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// Only objects of these kinds.
    #[arg(value_enum)]
    pub(crate) kinds: Vec<What>,
    /// Changes after this revision, instead of those from now on.
    #[arg(long, value_name = "REVISION")]
    pub(crate) since: Option<u64>,
}

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    Vm,
    Image,
    Volume,
    Network,
    Pool,
    Host,
    Alert,
    User,
    Task,
}

impl What {
    /// Its name in the API.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Pool => "pool",
            Self::Host => "host",
            Self::Alert => "alert",
            Self::User => "user",
            Self::Task => "task",
        }
    }
}
