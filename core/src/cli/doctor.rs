//! `campanile doctor`: looks at everything a server needs, each with ✓ ! ✗ and, where something is wrong, what to do.
//!
//! It changes nothing: no file is made, no migration applied, no mail sent.

use super::{
    Global,
    exit::{Code, Failure, Outcome},
    output::{Output, Tone},
    settings,
};
use crate::doctor::{Finding, Verdict, broker, bus, database, instances, machine, mail, plugins, shape, templates};

pub async fn run(global: &Global, out: Output) -> Outcome {
    let mut all = Vec::new();
    let mut tell = |finding: Finding| {
        show(out, &finding);
        all.push(finding);
    };
    match settings::load(global, &[]) {
        Err(e) => tell(Finding::wrong("configuration", e.what, "campanile config check")),
        Ok(loaded) => {
            let from =
                loaded.file.as_ref().map_or_else(|| "defaults and environment".into(), |f| f.display().to_string());
            tell(Finding::good("configuration", from));
            let config = &loaded.config;
            tell(machine::data_dir(&config.server.data_dir));
            for finding in database::check(config).await {
                tell(finding);
            }
            for finding in broker::check(config).await {
                tell(finding);
            }
            for finding in bus::check(config).await {
                tell(finding);
            }
            tell(machine::clock(database::witness(config).await));
            tell(machine::port(&config.server.listen).await);
            tell(machine::file_limit());
            tell(machine::disk(&config.server.data_dir));
            tell(templates(config));
            for finding in mail::check(config).await {
                tell(finding);
            }
            for finding in instances::check(config).await {
                tell(finding);
            }
            for finding in plugins::check(config) {
                tell(finding);
            }
            for finding in shape::check(config) {
                tell(finding);
            }
        }
    }
    out.show(&all, |_| {});
    let wrong = all.iter().filter(|f| f.verdict == Verdict::Wrong).count();
    match wrong {
        0 => Ok(()),
        n => Err(Failure::new(Code::Unhealthy, format!("{n} of {} checks failed", all.len()))
            .next("do what stands under each ✗")),
    }
}

fn show(out: Output, finding: &Finding) {
    let (mark, tone) = match finding.verdict {
        Verdict::Good => ("✓", Tone::Good),
        Verdict::Look => ("!", Tone::Warn),
        Verdict::Wrong => ("✗", Tone::Bad),
    };
    out.line(format!(
        "{} {:<14} {}",
        out.paint(tone, mark),
        finding.what,
        finding.text.replace('\n', "\n                 ")
    ));
    if let Some(fix) = &finding.fix {
        out.line(format!("                 {} {fix}", out.paint(Tone::Dim, "→")));
    }
}
