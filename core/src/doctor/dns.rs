//! Questions to the machine's name servers: TXT and MX records, which the system's own resolver calls don't give.
//!
//! One UDP packet each way, TCP when the answer does not fit, no cache: enough to see whether a mail domain is set up at all.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// For one server; the next one is asked then.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Mx = 15,
    Txt = 16,
}

/// Who is asked, in this order.
#[derive(Clone, Debug)]
pub struct NameServers(Vec<SocketAddr>);

impl NameServers {
    /// Those of this machine.
    pub fn of_the_system() -> Self {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        Self(named(&text).map(|ip| SocketAddr::new(ip, 53)).collect())
    }

    #[cfg(test)]
    pub fn at(server: SocketAddr) -> Self {
        Self(vec![server])
    }

    /// The texts of TXT records, the hosts of MX records; empty when there are none. `Err`: no answer could be had.
    pub async fn lookup(&self, name: &str, kind: Kind) -> Result<Vec<String>, String> {
        let mut last = "no name server in /etc/resolv.conf".to_owned();
        for server in &self.0 {
            match timeout(PATIENCE, ask(*server, name, kind)).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(e)) => last = format!("name server {}: {e}", server.ip()),
                Err(_) => last = format!("name server {} did not answer within {} s", server.ip(), PATIENCE.as_secs()),
            }
        }
        Err(last)
    }
}

fn named(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    resolv_conf.lines().filter_map(|l| l.strip_prefix("nameserver")?.split('%').next()?.trim().parse().ok())
}

async fn ask(server: SocketAddr, name: &str, kind: Kind) -> Result<Vec<String>, String> {
    let id = uuid::Uuid::new_v4().as_u128() as u16;
    let packet = question(id, name, kind).ok_or_else(|| format!("{name:?} is not a domain"))?;
    let mut answer = by_udp(server, &packet).await.map_err(|e| e.to_string())?;
    // A key for DKIM, or a domain with many texts, does not fit into a packet.
    if answer.get(2).is_some_and(|flags| flags & 0x02 != 0) {
        answer = by_tcp(server, &packet).await.map_err(|e| e.to_string())?;
    }
    read(&answer, id, kind).ok_or_else(|| "the answer can't be read".to_owned())
}

async fn by_udp(server: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(server).await?;
    socket.send(packet).await?;
    let mut answer = vec![0; 4096];
    let n = socket.recv(&mut answer).await?;
    answer.truncate(n);
    Ok(answer)
}

async fn by_tcp(server: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
    framed.extend(packet);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut packet = id.to_be_bytes().to_vec();
    // Recursion wished, one question.
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n))?;
        packet.push(length);
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, kind as u8, 0, 1]);
    Some(packet)
}

fn read(packet: &[u8], id: u16, kind: Kind) -> Option<Vec<String>> {
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    if number(0)? != id || packet.get(2)? & 0x80 == 0 {
        return None;
    }
    // 3: there is no such name, which is an answer.
    match packet.get(3)? & 0x0f {
        0 => {}
        3 => return Some(Vec::new()),
        _ => return None,
    }
    let mut at = 12;
    for _ in 0..number(4)? {
        at = name_at(packet, at)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        at = name_at(packet, at)?.1;
        let (this, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = packet.get(at + 10..at + 10 + length)?;
        if this == kind as u16 {
            found.push(match kind {
                Kind::Mx => name_at(packet, at + 12)?.0,
                Kind::Txt => texts(data)?,
            });
        }
        at += 10 + length;
    }
    Some(found)
}

/// A TXT record is a row of short strings that belong together.
fn texts(mut data: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    while let Some((&length, rest)) = data.split_first() {
        let (part, after) = rest.split_at_checked(usize::from(length))?;
        text.extend_from_slice(part);
        data = after;
    }
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// A name and where it ends; follows pointers, but not for ever.
fn name_at(packet: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut labels, mut at, mut end) = (Vec::new(), start, None);
    for _ in 0..128 {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            64.. => {
                end = end.or(Some(at + 2));
                at = ((length & 0x3f) << 8) | usize::from(*packet.get(at + 1)?);
            }
            _ => {
                labels.push(String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).into_owned());
                at += 1 + length;
            }
        }
    }
    None
}

/// Answers of a name server that runs in the test itself.
#[cfg(test)]
pub mod fake {
    use super::*;
    use std::{collections::HashMap, sync::Arc};
    use tokio::net::TcpListener;

    /// Serves TXT records by name; a name that is not there does not exist. Answers over 512 bytes come by TCP only.
    pub async fn serve(texts: &[(&str, &[&str])]) -> NameServers {
        let texts: HashMap<String, Vec<Vec<u8>>> =
            texts.iter().map(|(name, texts)| ((*name).to_owned(), texts.iter().map(|t| record(t)).collect())).collect();
        let texts = Arc::new(texts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        let shared = texts.clone();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut packet).await {
                let mut answer = answer(&packet[..n], &shared);
                if answer.len() > 512 {
                    answer.truncate(n);
                    (answer[2], answer[7]) = (answer[2] | 0x02, 0);
                }
                let _ = socket.send_to(&answer, from).await;
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Ok(n) = stream.read_u16().await else { continue };
                let mut packet = vec![0; usize::from(n)];
                stream.read_exact(&mut packet).await.unwrap();
                let answer = answer(&packet, &texts);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        NameServers::at(address)
    }

    /// A text as strings of at most 255 bytes.
    fn record(text: &str) -> Vec<u8> {
        text.as_bytes().chunks(255).flat_map(|c| [&[c.len() as u8][..], c].concat()).collect()
    }

    fn answer(question: &[u8], texts: &HashMap<String, Vec<Vec<u8>>>) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2] |= 0x80;
        let name = name_at(question, 12).unwrap().0;
        let kind = question[question.len() - 3];
        match texts.get(&name) {
            None => packet[3] |= 3,
            Some(texts) if kind == Kind::Txt as u8 => {
                packet[7] = texts.len() as u8;
                for data in texts {
                    packet.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60]);
                    packet.extend((data.len() as u16).to_be_bytes());
                    packet.extend(data);
                }
            }
            Some(_) => {
                packet[7] = 1;
                let host = b"\x02mx\xc0\x0c";
                packet.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, host.len() as u8 + 2, 0, 10]);
                packet.extend(host);
            }
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_answer_comes_by_tcp() {
        let key = "p=".to_owned() + &"A".repeat(800);
        let servers = fake::serve(&[("k._domainkey.acme.dev", &[&key]), ("acme.dev", &["v=spf1 -all", "other"])]).await;
        assert_eq!(servers.lookup("k._domainkey.acme.dev", Kind::Txt).await.unwrap(), [key]);
        assert_eq!(servers.lookup("acme.dev", Kind::Txt).await.unwrap(), ["v=spf1 -all", "other"]);
        assert_eq!(servers.lookup("acme.dev", Kind::Mx).await.unwrap(), ["mx.acme.dev"]);
        assert!(servers.lookup("nobody.dev", Kind::Txt).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_next_server_is_asked_when_one_is_gone() {
        let there = fake::serve(&[("acme.dev", &["x"])]).await;
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let both = NameServers(vec![gone, there.0[0]]);
        assert_eq!(both.lookup("acme.dev", Kind::Txt).await.unwrap(), ["x"]);
        let e = NameServers(vec![gone]).lookup("acme.dev", Kind::Txt).await.unwrap_err();
        assert!(e.contains("127.0.0.1"), "{e}");
        assert!(NameServers(Vec::new()).lookup("acme.dev", Kind::Txt).await.is_err());
    }

    #[test]
    fn servers_are_read_from_the_systems_file() {
        let text = "# comment\nnameserver 10.0.0.1\nsearch x\nnameserver fe80::1%eth0\nnameserver nonsense\n";
        let found: Vec<_> = named(text).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["10.0.0.1", "fe80::1"]);
    }

    fn answer(kind: Kind, records: &[&[u8]]) -> Vec<u8> {
        let mut packet = question(7, "example.org", kind).unwrap();
        packet[2] |= 0x80;
        packet[7] = records.len() as u8;
        for data in records {
            packet.extend([0xc0, 12, 0, kind as u8, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            packet.extend(*data);
        }
        packet
    }

    #[test]
    fn reads_text_in_pieces_and_mail_hosts_by_pointer() {
        let txt = answer(Kind::Txt, &[b"\x07v=spf1 \x04-all", b"\x05other"]);
        assert_eq!(read(&txt, 7, Kind::Txt).unwrap(), ["v=spf1 -all", "other"]);
        let mx = answer(Kind::Mx, &[b"\x00\x0a\x02mx\xc0\x0c"]);
        assert_eq!(read(&mx, 7, Kind::Mx).unwrap(), ["mx.example.org"]);
    }

    #[test]
    fn a_missing_name_is_an_empty_answer_and_a_foreign_packet_none() {
        let mut packet = answer(Kind::Txt, &[]);
        assert_eq!(read(&packet, 8, Kind::Txt), None);
        packet[3] = 3;
        assert_eq!(read(&packet, 7, Kind::Txt), Some(vec![]));
    }

    #[test]
    fn no_packet_hurts() {
        let good = answer(Kind::Mx, &[b"\x00\x0a\x02mx\xc0\x0c"]);
        for cut in 0..good.len() {
            let _ = read(&good[..cut], 7, Kind::Mx);
        }
        // A name that points at itself.
        let mut circle = answer(Kind::Mx, &[b"\x00\x0a\xc0\x00"]);
        let at = circle.len() - 1;
        circle[at] = (at - 1) as u8;
        assert_eq!(read(&circle, 7, Kind::Mx), None);
    }
}
