//! A question to the machine's name server: TXT and MX records, which the system's own resolver calls don't give.
//!
//! One UDP packet each way, no cache, no TCP: enough to see whether a mail domain is set up at all.

use std::{net::IpAddr, time::Duration};
use tokio::{net::UdpSocket, time::timeout};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Mx = 15,
    Txt = 16,
}

/// The texts of TXT records, the hosts of MX records; empty when there are none. `Err`: no answer could be had.
pub async fn lookup(name: &str, kind: Kind) -> Result<Vec<String>, String> {
    let server = name_server().ok_or("no name server in /etc/resolv.conf")?;
    let id = uuid::Uuid::new_v4().as_u128() as u16;
    let packet = question(id, name, kind).ok_or_else(|| format!("{name:?} is not a domain"))?;
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let ask = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect((server, 53)).await?;
        socket.send(&packet).await?;
        let mut answer = vec![0; 4096];
        let n = socket.recv(&mut answer).await?;
        answer.truncate(n);
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(Duration::from_secs(3), ask).await {
        Ok(Ok(answer)) => read(&answer, id, kind).ok_or_else(|| "the name server's answer can't be read".to_owned()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("the name server did not answer within 3 s".to_owned()),
    }
}

fn name_server() -> Option<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").ok()?;
    text.lines().find_map(|l| l.strip_prefix("nameserver")?.split('%').next()?.trim().parse().ok())
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

#[cfg(test)]
mod tests {
    use super::*;

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
