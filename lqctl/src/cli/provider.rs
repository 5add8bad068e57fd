//! The words about identity providers.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Identity providers: directories (LDAP) and OpenID Connect. A secret (password of the service account, client secret) is read
/// from LQ_SECRET.
#[derive(Debug, Subcommand)]
pub(crate) enum Provider {
    /// Every provider.
    #[command(visible_alias = "ls")]
    List,
    /// Ways to log in: the cluster's own users, and what every enabled provider is called at the login.
    Realms,
    /// One provider.
    Show {
        /// Name or id.
        provider: String,
    },
    /// Let users of a directory log in.
    CreateLdap {
        #[command(flatten)]
        common: NewProvider,
        /// Its servers: ldaps://host[:port], or ldap://host[:port] with StartTLS. The first that answers is asked.
        #[arg(required = true, value_name = "URL")]
        servers: Vec<String>,
        /// SHA-256 of the one certificate that is trusted, in place of authorities.
        #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
        certificate: Option<String>,
        /// Distinguished name of the service account that searches; its password is the secret.
        #[arg(long, value_name = "DN", requires = "secret")]
        bind_dn: Option<String>,
        /// Below this users are searched for.
        #[arg(long, value_name = "DN", required_unless_present = "user_dn")]
        base_dn: Option<String>,
        /// Distinguished name of a user, `{user}` standing for their name, instead of a search.
        #[arg(long, value_name = "TEMPLATE")]
        user_dn: Option<String>,
        /// Finds one user, `{user}` standing for their name.
        #[arg(long, value_name = "FILTER")]
        user_filter: Option<String>,
        /// Attribute with the user's name.
        #[arg(long, value_name = "ATTRIBUTE")]
        user_attribute: Option<String>,
        /// Attribute with their name for people.
        #[arg(long, value_name = "ATTRIBUTE")]
        name_attribute: Option<String>,
        /// Below this groups are searched for.
        #[arg(long, value_name = "DN")]
        group_base_dn: Option<String>,
        /// Finds the groups of a user, `{dn}` and `{user}` standing for them; `memberOf` tells them where absent.
        #[arg(long, value_name = "FILTER")]
        group_filter: Option<String>,
    },
    /// Let users of an OpenID provider log in. Register https://HOST/oidc there for every address the page is opened by.
    CreateOidc {
        #[command(flatten)]
        common: NewProvider,
        /// Its issuer, https://…
        issuer: String,
        /// How it knows us.
        #[arg(long)]
        client_id: String,
        /// What is asked for beside `openid`; may be repeated.
        #[arg(long = "scope", default_values = ["profile", "email"])]
        scopes: Vec<String>,
        /// Claim with the user's name.
        #[arg(long, default_value = "preferred_username")]
        username_claim: String,
        /// Claim with their groups.
        #[arg(long, default_value = "groups")]
        groups_claim: String,
    },
    /// Switch a provider on, or off: the sessions and tokens of its users end then.
    Enable {
        /// Name or id.
        provider: String,
        /// Off.
        #[arg(long)]
        off: bool,
    },
    /// Set which of its groups stand for which of the cluster, all anew.
    Map {
        /// Name or id.
        provider: String,
        /// Its group by name or distinguished name, `*` for everyone, and the group of the cluster; none: no groups.
        #[arg(value_name = "EXTERNAL:GROUP", value_parser = mapping)]
        groups: Vec<(String, String)>,
    },
    /// Try a provider: whether it can be asked, whether it finds a user, whether their password is right.
    Test {
        /// Name or id.
        provider: String,
        /// Who is to be found.
        #[arg(long)]
        username: Option<String>,
        /// Ask for their password and try it too.
        #[arg(long, requires = "username")]
        password: bool,
    },
    /// Delete a provider and its users.
    Delete {
        /// Name or id.
        provider: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct NewProvider {
    /// Its name, the realm: its users are USER@NAME.
    pub(crate) name: String,
    /// What the login page calls it.
    #[arg(long, default_value = "")]
    pub(crate) title: String,
    /// A group of it that stands for one of the cluster; may be repeated.
    #[arg(long = "group", value_name = "EXTERNAL:GROUP", value_parser = mapping)]
    pub(crate) groups: Vec<(String, String)>,
    /// A session ends this long after its login.
    #[arg(long, default_value_t = 12, value_name = "HOURS")]
    pub(crate) session_hours: u32,
    /// File with certificates (PEM) that alone are trusted.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The secret. Better in the environment than on the command line.
    #[arg(long, env = "LQ_SECRET", hide_env_values = true)]
    pub(crate) secret: Option<String>,
    /// Do not let anyone log in by it yet.
    #[arg(long)]
    pub(crate) off: bool,
}

/// `external:group`; names of ours have no colon.
fn mapping(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once(':') {
        Some((external, group)) if !external.is_empty() && !group.is_empty() => {
            Ok((external.into(), group.into()))
        }
        _ => Err(format!("`{text}` is not EXTERNAL:GROUP")),
    }
}
