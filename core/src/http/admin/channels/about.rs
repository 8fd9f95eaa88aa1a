//! What a channel's code says of itself and what it may do. Absent on purpose: judging either.

use crate::{
    channel::{ChannelView, code::Origin, manage::PluginView},
    outbound::Allowed,
    services::Services,
};
use campanile_admin_ui::pages::channel as ui;

pub(super) fn tab(s: &Services, v: &ChannelView) -> ui::AboutTab {
    let plugins = s.keeper.plugins();
    let mut seen = Vec::new();
    let mut cards = Vec::new();
    for i in &v.instances {
        if seen.contains(&i.plugin) {
            continue;
        }
        seen.push(i.plugin.clone());
        let Some(p) = plugins.iter().find(|p| p.name == i.plugin) else { continue };
        cards.push((p.display_name.clone().unwrap_or_else(|| p.name.clone()), about(p)));
    }
    ui::AboutTab { cards }
}

/// What a plugin may say of itself, or need not.
fn told(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "not told by the plugin".to_owned())
}

/// What it would like to call. Only the list says what it may.
fn asked(p: &PluginView) -> String {
    if p.hosts.is_empty() { "none asked".to_owned() } else { p.hosts.join(", ") }
}

/// Which hosts it reaches through this one, by the list of what may load.
pub(super) fn calls(p: &PluginView, origin: &Origin) -> String {
    if origin.isolation == "built-in" {
        return "whom its configuration names, as a part of the host".to_owned();
    }
    let private = origin.private_hosts.iter().map(|h| format!("{h} (private addresses)"));
    let all: Vec<_> = origin.allowed_hosts.iter().cloned().chain(private).collect();
    let allowed = Allowed { public: &origin.allowed_hosts, private: &origin.private_hosts };
    let open: Vec<_> = p.hosts.iter().filter(|host| !allowed.covers(host)).cloned().collect();
    let may = if all.is_empty() { "no host".to_owned() } else { all.join(", ") };
    if open.is_empty() { may } else { format!("{may}; asked for and not allowed: {}", open.join(", ")) }
}

fn about(p: &PluginView) -> Vec<(&'static str, String)> {
    let origin = p.origin.clone().unwrap_or_default();
    let isolation = match origin.isolation.as_str() {
        "built-in" => "as a part of the host".to_owned(),
        "in-process" => "in the host's process; a crash of it ends the host".to_owned(),
        "process" => "in a process of its own".to_owned(),
        _ => String::new(),
    };
    let facts = [
        ("Plugin", Some(p.name.clone())),
        ("Version", p.version.clone()),
        ("What it does", p.description.clone()),
        ("Sends to", p.recipient.clone()),
        ("Runs", Some(isolation)),
        ("Interface", origin.abi.clone()),
        ("File", origin.file.clone()),
        ("SHA-256", origin.sha256.clone()),
        ("May call", Some(calls(p, &origin))),
        ("Asks to call", Some(asked(p))),
        ("Authors", Some(told(p.authors.as_ref()))),
        ("License", Some(told(p.license.as_ref()))),
        ("Homepage", p.homepage.clone()),
        ("Documentation", Some(told(p.documentation.as_ref()))),
        ("Changelog", Some(told(p.changelog.as_ref()))),
        ("Refused lately", p.refusal.as_ref().map(|r| format!("{} ({})", r.reason, r.step))),
        ("Instances", Some(p.instances.join(", "))),
    ];
    facts.into_iter().filter_map(|(label, value)| Some((label, value.filter(|v| !v.is_empty())?))).collect()
}
