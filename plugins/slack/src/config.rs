//! What an operator sets.

use campanile_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who reads the webhook's requests.
    #[serde(default)]
    pub(crate) service: Service,
    /// The incoming webhook's URL. Whoever has it can post, so it is a secret. Leave it out when each user has one: the
    /// user's address in this channel is then that URL.
    #[serde(default)]
    pub(crate) url: Secret,
    /// Name to post under, where the service lets a webhook choose (Discord, Mattermost).
    #[serde(default)]
    pub(crate) username: String,
    /// Picture to post with, where the service lets a webhook choose (Discord, Mattermost).
    #[serde(default)]
    pub(crate) icon_url: Option<Url>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    #[default]
    Slack,
    Discord,
    Mattermost,
    /// A workflow that begins with "When a Teams webhook request is received".
    Teams,
}

impl Config {
    pub(crate) fn problems(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        if !self.url.is_empty()
            && let Err(why) = Url::parse(self.url.expose())
        {
            problems.push(Problem::new("url", why));
        }
        let chooses = matches!(self.service, Service::Discord | Service::Mattermost);
        if !chooses && !self.username.is_empty() {
            problems.push(Problem::new("username", "this service doesn't let a webhook choose its name; leave it out"));
        }
        if !chooses && self.icon_url.is_some() {
            problems
                .push(Problem::new("icon_url", "this service doesn't let a webhook choose its picture; leave it out"));
        }
        if self.username.chars().count() > 80 {
            problems.push(Problem::new("username", "must be at most 80 characters"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}
