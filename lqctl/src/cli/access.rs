//! Words for users, groups, roles, sessions, one-time codes and the audit log.

use super::{Filter, Listing, NewMeta, label};
use clap::{Args, Subcommand};
use lq_api::{Timestamp, access::Permission, audit::AuditOutcome};

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Every user you may see.
    #[command(visible_alias = "ls")]
    List(Listing),
    /// One user.
    Show {
        /// Name or id.
        user: String,
    },
    /// Make a user. The first password is asked for, or read from LQ_NEW_PASSWORD or standard input.
    Create {
        /// What they log in with.
        name: String,
        /// Name for people.
        #[arg(long, default_value = "")]
        full_name: String,
        /// A role on a scope; may be repeated. SCOPE is `cluster` (where absent), KEY=VALUE[,…] or KIND/ID.
        #[arg(long = "grant", value_name = "ROLE[@SCOPE]")]
        grants: Vec<String>,
        /// They need not set a new password at their first login.
        #[arg(long)]
        keep_password: bool,
        /// Give no password: they cannot log in until one is set.
        #[arg(long)]
        no_password: bool,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Change a user.
    Update {
        /// Name or id.
        user: String,
        #[command(flatten)]
        meta: NewMeta,
        /// New name for people.
        #[arg(long)]
        full_name: Option<String>,
        /// Give a role; may be repeated.
        #[arg(long = "grant", value_name = "ROLE[@SCOPE]")]
        grants: Vec<String>,
        /// Take a role away; may be repeated.
        #[arg(long = "revoke", value_name = "ROLE[@SCOPE]")]
        revoked: Vec<String>,
        /// They cannot log in any more; sessions end, tokens count for nothing.
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// They can log in again.
        #[arg(long)]
        enable: bool,
    },
    /// Set the password of a user, asked for or read from LQ_NEW_PASSWORD or standard input. Their sessions end.
    Password {
        /// Name or id.
        user: String,
        /// They need not set a new one at their next login.
        #[arg(long)]
        keep_password: bool,
    },
    /// Ask a user for no one-time codes any more, who has lost the authenticator and the recovery codes.
    ResetTotp {
        /// Name or id.
        user: String,
    },
    /// Delete a user, their sessions and tokens.
    Delete {
        /// Name or id.
        user: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Every group you may see.
    #[command(visible_alias = "ls")]
    List(Filter),
    /// One group.
    Show {
        /// Name or id.
        group: String,
    },
    /// Make a group.
    Create {
        /// Its name.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// A member; may be repeated.
        #[arg(long = "member", value_name = "USER")]
        members: Vec<String>,
        /// A role for all members; may be repeated.
        #[arg(long = "grant", value_name = "ROLE[@SCOPE]")]
        grants: Vec<String>,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Change a group.
    Update {
        /// Name or id.
        group: String,
        #[command(flatten)]
        meta: NewMeta,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// Take a user in; may be repeated.
        #[arg(long = "add", value_name = "USER")]
        added: Vec<String>,
        /// Put a member out; may be repeated.
        #[arg(long = "remove", value_name = "USER")]
        removed: Vec<String>,
        /// Give a role; may be repeated.
        #[arg(long = "grant", value_name = "ROLE[@SCOPE]")]
        grants: Vec<String>,
        /// Take a role away; may be repeated.
        #[arg(long = "revoke", value_name = "ROLE[@SCOPE]")]
        revoked: Vec<String>,
    },
    /// Delete a group. Its members stay.
    Delete {
        /// Name or id.
        group: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Every role you may see.
    #[command(visible_alias = "ls")]
    List(Filter),
    /// One role.
    Show {
        /// Name or id.
        role: String,
    },
    /// Every permission there is.
    Permissions,
    /// Make a role.
    Create {
        /// Its name.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// A permission, e.g. vm.power; may be repeated.
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<Permission>,
        /// A label; may be repeated.
        #[arg(short, long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// Change a role, for all who have it.
    Update {
        /// Name or id.
        role: String,
        #[command(flatten)]
        meta: NewMeta,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// Add a permission; may be repeated.
        #[arg(long = "add", value_name = "PERMISSION")]
        added: Vec<Permission>,
        /// Remove a permission; may be repeated.
        #[arg(long = "remove", value_name = "PERMISSION")]
        removed: Vec<Permission>,
    },
    /// Delete a role nobody has.
    Delete {
        /// Name or id.
        role: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// Your own sessions, or with user.read all.
    #[command(visible_alias = "ls")]
    List,
    /// End a session at once.
    End {
        /// Its id.
        session: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Totp {
    /// Set up one-time codes: shows a secret for the authenticator, asks for a code, shows recovery codes.
    Enable,
    /// Ask for one-time codes no more. Asks for the password.
    Disable,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// How many records.
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Only by this user.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only by whom this is part of the name.
    #[arg(long)]
    pub(crate) actor: Option<String>,
    /// Only actions that begin with this, e.g. `vm.`.
    #[arg(long)]
    pub(crate) action: Option<String>,
    /// Only of this object (KIND/ID) or kind.
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Only with this outcome: done, refused or failed.
    #[arg(long, value_parser = outcome)]
    pub(crate) outcome: Option<AuditOutcome>,
    /// Only since this time, e.g. 2026-01-31T12:00:00Z.
    #[arg(long)]
    pub(crate) since: Option<Timestamp>,
    /// Only before this time.
    #[arg(long)]
    pub(crate) until: Option<Timestamp>,
}

fn outcome(text: &str) -> Result<AuditOutcome, String> {
    match text {
        "done" => Ok(AuditOutcome::Done),
        "refused" => Ok(AuditOutcome::Refused),
        "failed" => Ok(AuditOutcome::Failed),
        _ => Err(format!("`{text}` is not done, refused or failed")),
    }
}
