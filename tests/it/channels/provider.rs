//! A far side that speaks HTTP: answers as it is told, and 200 when it is told nothing.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub struct Provider {
    pub address: SocketAddr,
    script: Arc<Mutex<VecDeque<&'static str>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, seen) = (Arc::<Mutex<VecDeque<&'static str>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (answers, requests) = (script.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, answers.clone(), requests.clone()));
            }
        });
        Self { address, script, seen }
    }

    pub fn url(&self) -> String {
        format!("http://{}/in", self.address)
    }

    pub fn next(&self, answer: &'static str) {
        self.script.lock().unwrap().push_back(answer);
    }

    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// One connection, one request after the other.
async fn serve(
    mut socket: TcpStream,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    requests: Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        let length = |head: &str| {
            let line =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
            line.map_or(0, |n| n.trim().parse::<usize>().unwrap())
        };
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= length(head)
        {
            requests.lock().unwrap().push(text);
            got.clear();
            let answer = answers.lock().unwrap().pop_front().unwrap_or("200 OK");
            let (status, headers) = answer.split_once('\n').unwrap_or((answer, ""));
            socket.write_all(format!("HTTP/1.1 {status}\r\n{headers}content-length: 0\r\n\r\n").as_bytes()).await?;
            continue;
        }
        if socket.read_buf(&mut got).await? == 0 {
            return Ok(());
        }
    }
}
