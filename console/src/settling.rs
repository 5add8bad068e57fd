//! What follows when this host's daemon starts again as a member of something else: it is looked at without a session, for
//! there is none any more, until the host stands where it was to.

use crate::{
    api,
    view::{GOOD, Line, PLAIN, STRONG, wrap},
};
use lq_api::cluster::{Cluster, MemberRole};
use uuid::Uuid;

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// That the host is of this cluster.
    Cluster(Uuid),
    /// That the cluster is in this epoch.
    Epoch(u64),
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settling {
    pub(crate) aim: Aim,
    /// What is known from the beginning.
    pub(crate) facts: Vec<String>,
    pub(crate) step: String,
    pub(crate) ended: bool,
}

impl Settling {
    pub(crate) fn new(aim: Aim, facts: Vec<String>) -> Self {
        Self { aim, facts, step: "the management daemon starts again".into(), ended: false }
    }

    pub(crate) fn title(&self) -> &'static str {
        match (&self.aim, self.ended) {
            (Aim::Cluster(_), false) => "This host joins the cluster ...",
            (Aim::Cluster(_), true) => "This host is a member of the cluster",
            (Aim::Epoch(_), false) => "The cluster is formed anew ...",
            (Aim::Epoch(_), true) => "The cluster goes on",
        }
    }

    /// What the page shows below its title.
    pub(crate) fn lines(&self, width: usize) -> Vec<Line> {
        let wrapped =
            |text: &str, style| wrap(text, width).into_iter().map(move |l| (style, l)).collect::<Vec<_>>();
        let mut lines: Vec<Line> = self.facts.iter().flat_map(|f| wrapped(f, PLAIN)).collect();
        lines.push((PLAIN, String::new()));
        lines.extend(wrapped(&self.step, if self.ended { GOOD } else { STRONG }));
        lines
    }
}

/// Where the host stands now: words, and whether that is where it was to be.
pub(crate) fn look(aim: &Aim) -> (String, bool) {
    let answer = api::get("/api/v1/cluster").ok().filter(|a| a.status == 200);
    judge(aim, answer.and_then(|a| serde_json::from_slice(&a.body).ok()).as_ref())
}

fn judge(aim: &Aim, cluster: Option<&Cluster>) -> (String, bool) {
    let Some(cluster) = cluster else {
        return ("the management daemon starts again (machines run on)".into(), false);
    };
    let there = match aim {
        Aim::Cluster(id) => cluster.id == *id,
        Aim::Epoch(epoch) => cluster.epoch >= *epoch,
    };
    let me = cluster.members.iter().find(|m| m.host == cluster.this_host);
    if !there {
        return ("the management daemon is about to start again".into(), false);
    }
    match me.map(|m| m.role) {
        None => ("the host is brought up to date".into(), false),
        Some(MemberRole::Joining) => {
            let lag = me.and_then(|m| m.lag).map(|n| format!(": it lacks {n} changes")).unwrap_or_default();
            (format!("the host is brought up to date{lag}"), false)
        }
        Some(_) if !cluster.quorum => ("the other hosts are looked for".into(), false),
        Some(_) => {
            let hosts = cluster.members.iter().filter(|m| m.role != MemberRole::Lost).count();
            let who = if matches!(aim, Aim::Cluster(_)) { "with an account of the cluster" } else { "anew" };
            (format!("Done: {hosts} hosts, changes are possible. Log in {who}."), true)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lq_api::{HostId, cluster::Member};

    #[test]
    fn it_ends_only_where_the_host_is_where_it_was_to_be() {
        let mut cluster = crate::recovery::tests::lost().cluster;
        let member = |host, role| Member {
            host,
            name: "n".into(),
            address: None,
            role,
            reachable: None,
            lag: Some(7),
            lost_at: None,
            refused: None,
        };
        let aim = Aim::Cluster(Uuid::from_u128(9));
        assert!(!judge(&aim, None).1);
        cluster.quorum = true;
        cluster.members = vec![member(cluster.this_host, MemberRole::Voter)];
        assert!(!judge(&aim, Some(&cluster)).1, "it is still the old cluster");
        cluster.id = Uuid::from_u128(9);
        cluster.members[0].role = MemberRole::Joining;
        assert!(judge(&aim, Some(&cluster)).0.contains("lacks 7"));
        cluster.members[0].role = MemberRole::Follower;
        cluster.members.push(member(HostId::new(), MemberRole::Lost));
        assert_eq!(
            judge(&aim, Some(&cluster)),
            ("Done: 1 hosts, changes are possible. Log in with an account of the cluster.".into(), true)
        );
        assert!(!judge(&Aim::Epoch(2), Some(&cluster)).1, "the epoch before");
        cluster.epoch = 2;
        assert!(judge(&Aim::Epoch(2), Some(&cluster)).1);
        cluster.quorum = false;
        assert!(!judge(&Aim::Epoch(2), Some(&cluster)).1);
    }
}
