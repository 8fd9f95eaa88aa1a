//! Whether the instances of the configuration file could start: their secrets are there, and their configurations pass.
//!
//! Nothing is started, and nobody is asked but what is linked in: code from files is tried by the server that runs it.

use super::Finding;
use crate::{
    channel::{
        code::Code,
        email,
        setup::{self, secrets::Vault},
        spec::{self, Origin, Spec},
    },
    config::Config,
};
use std::{env, sync::Arc};

const WHAT: &str = "instances";

pub async fn check(config: &Config) -> Vec<Finding> {
    let dir = config.plugins.secrets_dir.clone().unwrap_or_else(|| config.server.data_dir.join("secrets"));
    // Without a key: the file has no sealed secrets, and looking must not make one.
    let vault = Vault::new(dir, None, Arc::new(|name: &str| env::var(name).ok()));
    let known = email::code(None, Arc::default());
    let mut found = Vec::new();
    for spec in spec::of_file(config, false) {
        // `[email]` has a finding of its own.
        if spec.origin == Origin::File && spec.name != "email" {
            found.push(one(&spec, known.as_ref(), &vault).await);
        }
    }
    found
}

async fn one(spec: &Spec, known: &dyn Code, vault: &Vault) -> Finding {
    let name = spec.name.as_str();
    if !spec.setup.enabled {
        return Finding::good(WHAT, format!("{name} is switched off"));
    }
    if spec.plugin != known.description().name {
        return match vault.resolve(spec.trust(), name, &spec.setup.config) {
            Ok(_) => {
                Finding::good(WHAT, format!("{name}: its secrets are there; plugin {} judges the rest", spec.plugin))
            }
            Err(problems) => wrong(name, &problems),
        };
    }
    match setup::check(known, vault, spec.trust(), name, &spec.setup.config).await {
        Ok(_) => Finding::good(WHAT, format!("{name} can start")),
        Err(refused) => wrong(name, &refused.problems),
    }
}

fn wrong(name: &str, problems: &[campanile_plugin::Problem]) -> Finding {
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    Finding::wrong(WHAT, format!("{name}: {}", said.join("; ")), "correct its block of [[instances]]")
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};
    use crate::config::{self, instances::Instance};
    use serde_json::json;

    #[tokio::test]
    async fn each_instance_of_the_file_is_looked_at() {
        let mut config = config::defaults().unwrap();
        let instance = |name: &str, plugin: &str, enabled: bool, config: serde_json::Value| Instance {
            name: name.to_owned(),
            plugin: plugin.to_owned(),
            channel: None,
            enabled,
            rate: None,
            concurrency: None,
            timeout: None,
            config,
        };
        let from = "A <a@example.org>";
        config.instances = vec![
            instance("good", "email", true, json!({"url": "smtp://localhost:1", "from": from})),
            instance("bad", "email", true, json!({"url": "smtp://localhost:1", "form": from})),
            instance("bare", "slack", true, json!({"token": {"$secret": "env:CAMPANILE_NO_SUCH_VARIABLE"}})),
            instance("off", "slack", false, json!({})),
        ];
        let found: Vec<_> = check(&config).await.into_iter().map(|f| (f.verdict, f.text)).collect();
        let verdicts: Vec<_> = found.iter().map(|(verdict, _)| *verdict).collect();
        assert_eq!(verdicts, [Verdict::Good, Verdict::Wrong, Verdict::Wrong, Verdict::Good], "{found:?}");
        assert!(found[2].1.contains("has no CAMPANILE_NO_SUCH_VARIABLE"), "{found:?}");
    }
}
