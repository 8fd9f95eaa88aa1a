//! `campanile healthcheck`: asks this machine's server for `/readyz`, for containers and supervisors without curl.
//!
//! Without `--server` it reads the same configuration as `serve` and asks the address of `server.listen`. Absent on
//! purpose: keys, proxies, redirects. A check that leaves the machine by accident says nothing.

use super::{
    Global,
    exit::{Code, Failure, Outcome},
    output::{Output, safe},
    serve::reachable,
    settings,
};
use crate::{
    config::Loaded,
    dev::record::{self, Record},
};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use url::Url;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long to wait for the answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
}

pub async fn run(args: Args, global: &Global, out: Output) -> Outcome {
    let url = address(global).await?;
    let limit = Duration::from_secs(args.timeout);
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(limit)
        .build()
        .map_err(|e| Failure::failed("the HTTP client can't be made").why(e))?;
    let silent = |e: &reqwest::Error| {
        let failure = Failure::new(Code::NoConnection, format!("no answer from {url}"));
        if e.is_timeout() {
            return failure.why(format!("none within {} s", limit.as_secs()));
        }
        failure.why(super::client::root(e)).next("check that the server runs, and --server or server.listen")
    };
    let response = http.get(url.clone()).send().await.map_err(|e| silent(&e))?;
    let status = response.status();
    let body = response.text().await.map_err(|e| silent(&e))?;
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let Some(word) = body["status"].as_str().map(safe).filter(|_| status.is_success()) else {
        let reason = body["reason"].as_str().map_or_else(|| format!("the server answered {status}"), safe);
        return Err(Failure::new(Code::Unhealthy, "not ready").why(reason));
    };
    out.show(&body, |out| match degraded(&body).as_str() {
        "" => out.line(&word),
        parts => out.line(format!("{word}: {parts}")),
    });
    Ok(())
}

/// Parts that are down while the server still takes notifications.
fn degraded(body: &Value) -> String {
    let parts = body["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str);
    parts.map(safe).collect::<Vec<_>>().join(", ")
}

/// `/readyz` of the server that was named, of the configured address, of this machine's dev server, or of the default.
async fn address(global: &Global) -> Outcome<Url> {
    if let Some(server) = global.server.as_deref().filter(|s| !s.is_empty()) {
        return readyz(server);
    }
    let loaded = settings::load(global, &[])?;
    if !loaded.is_set("server.listen")
        && let Some(dev) = record::own_path().and_then(|p| Record::read(&p).ok().flatten()).filter(Record::is_alive)
    {
        return readyz(&dev.server);
    }
    listening(&loaded).await
}

fn readyz(server: &str) -> Outcome<Url> {
    let url = Url::parse(server).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    let mut url = url.ok_or_else(|| {
        Failure::usage(format!("{server:?} is not an address")).next("--server http://127.0.0.1:8000")
    })?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("readyz");
    }
    Ok(url)
}

async fn listening(loaded: &Loaded) -> Outcome<Url> {
    let listen = &loaded.config.server.listen;
    let unknown =
        |why: String| Failure::usage(format!("can't ask {listen}")).why(why).next("--server http://HOST:PORT");
    let mut found = tokio::net::lookup_host(listen).await.map_err(|e| unknown(e.to_string()))?;
    let address: SocketAddr = found.next().ok_or_else(|| unknown("this name has no address".to_owned()))?;
    if address.port() == 0 {
        return Err(unknown(
            "port 0 of server.listen lets the system choose, so the port is not known here".to_owned(),
        ));
    }
    readyz(&format!("http://{}", reachable(address)))
}
