//! `campanile token USER`: a JWT for an end user, signed as the server checks it.

use super::{
    Global,
    exit::{Failure, Outcome, chain},
    output::Output,
    settings,
};
use crate::{
    config::{Dur, Flag, Loaded},
    dev::record::{self, Record},
    http::auth::jwt::Jwt,
};
use campanile_model::{AppId, UserId};
use serde_json::json;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// The user id that the token is for.
    user: String,
    /// How long it is valid: 90s, 30m, 1h, 7d.
    #[arg(long, default_value = "1h", value_name = "TIME")]
    ttl: String,
    /// The app of the user.
    #[arg(long, default_value = "default")]
    app: String,
}

pub fn run(args: Args, global: &Global, out: Output) -> Outcome {
    let user = UserId::parse(&args.user).map_err(|e| Failure::usage(format!("the user id {e}")))?;
    let ttl = Dur::parse(&args.ttl).map_err(|e| Failure::usage("--ttl is not a time").why(e))?;
    if args.app != AppId::default().as_str() {
        return Err(Failure::usage(format!("no token keys for the app {:?}", args.app))
            .why("only the app `default` has keys in this version")
            .next("campanile token USER"));
    }
    let loaded = configuration(global)?;
    let token = Jwt::new(&loaded.config, std::sync::Arc::new(campanile_model::clock::SystemClock))
        .and_then(|jwt| jwt.mint(&user, *ttl))
        .map_err(|e| Failure::failed("no token was made").why(chain(&e)).next("campanile config check"))?;
    if out.json {
        out.show(&json!({ "token": token, "user_id": args.user, "expires_in": ttl.as_secs() }), |_| {});
    } else {
        out.answer(token);
    }
    Ok(())
}

/// What the server checks with: an explicit configuration, else the running dev server's, else the default one.
fn configuration(global: &Global) -> Outcome<Loaded> {
    let loaded = settings::load(global, &[])?;
    let explicit = global.config.is_some()
        || ["server.data_dir", "auth.jwt_secret", "auth.jwt_secret_file"].iter().any(|key| loaded.is_set(key));
    let dev = record::own_path().and_then(|path| Record::read(&path).ok().flatten()).filter(Record::is_alive);
    match dev {
        Some(dev) if !explicit => {
            let data_dir = dev.data_dir.display().to_string();
            let flag = Flag { key: "server.data_dir", value: data_dir, source: "dev.json", weak: false };
            settings::load(&Global { config: dev.config, ..global.clone() }, &[flag])
        }
        _ => Ok(loaded),
    }
}
