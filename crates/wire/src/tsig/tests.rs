use super::*;
use crate::request::short_answer;
use bindy_testing::{Named, NamedConfig, Scratch};
use domain::base::iana::Rcode;
use std::io::{Read, Write};

const NOW: u64 = 1_800_000_000;

fn key() -> Key {
    Key::new(Name::parse("k.example").unwrap(), &[5; 32])
}

fn question() -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(b"\x07example\0\0\x06\0\x01");
    message
}

#[test]
fn a_request_and_the_messages_of_its_answer_verify_in_order_only() {
    let mut request = question();
    let mut client = Signer::request(&key(), &mut request, NOW);
    let mut server = verify_request(&mut request, &key(), NOW + 300).unwrap();
    assert_eq!(request, question());
    let plain: Vec<Vec<u8>> = [0u16, 1, 2].map(|aa| short_answer(&request, Rcode::NOERROR, aa << 8)).to_vec();
    let mut signed = plain.clone();
    signed.iter_mut().for_each(|message| server.sign(message, NOW));
    let mut swapped = signed[1].clone();
    for (message, plain) in signed.iter_mut().zip(&plain) {
        assert_eq!(client.verify(message, NOW), Ok(true));
        assert_eq!(message, plain);
    }
    let mut request = question();
    let mut client = Signer::request(&key(), &mut request, NOW);
    assert!(matches!(client.verify(&mut swapped, NOW), Err(BadAnswer::Signature(_))));
}

#[test]
fn an_unsigned_message_counts_only_with_a_signed_one_after_it() {
    let mut request = question();
    let mut client = Signer::request(&key(), &mut request, NOW);
    let mut server = verify_request(&mut request, &key(), NOW).unwrap();
    let mut first = short_answer(&request, Rcode::NOERROR, 0);
    let mut unsigned = first.clone();
    assert!(client.verify(&mut unsigned.clone(), NOW).is_err(), "the first message has to be signed");
    let mut client = Signer::request(&key(), &mut question(), NOW);
    server.sign(&mut first, NOW);
    assert_eq!(client.verify(&mut first, NOW), Ok(true));
    for _ in 0..99 {
        assert_eq!(client.verify(&mut unsigned, NOW), Ok(false));
    }
    assert!(client.verify(&mut unsigned, NOW).is_err());
}

#[test]
fn any_changed_octet_is_noticed() {
    let mut request = question();
    Signer::request(&key(), &mut request, NOW);
    for position in 0..request.len() {
        let mut damaged = request.clone();
        damaged[position] ^= 0x40;
        // The id in the header is not signed, since forwarders change it; the one in the TSIG record is.
        let accepted = verify_request(&mut damaged, &key(), NOW).is_ok();
        assert!(!accepted || position < 2, "octet {position}");
    }
    for cut in 0..request.len() {
        assert!(verify_request(&mut request[..cut].to_vec(), &key(), NOW).is_err());
    }
}

#[test]
fn an_id_that_a_forwarder_gives_stays_the_id_of_the_message() {
    let ids = |message: &[u8]| [message[0], message[1]];
    let mut request = question();
    let original = ids(&request);
    let mut client = Signer::request(&key(), &mut request, NOW);
    request[..2].copy_from_slice(&[0xab, 0xcd]);
    let mut server = verify_request(&mut request, &key(), NOW).unwrap();
    assert_eq!(ids(&request), [0xab, 0xcd], "the forwarder knows the answer by it");
    let mut answer = short_answer(&request, Rcode::NOERROR, 0);
    server.sign(&mut answer, NOW);
    assert_eq!(ids(&answer), [0xab, 0xcd]);
    answer[..2].copy_from_slice(&original);
    assert_eq!(client.verify(&mut answer, NOW), Ok(true));
    assert_eq!(ids(&answer), original, "the client knows it by that");
}

#[test]
fn a_wrong_clock_is_told_from_a_wrong_key_by_both_sides() {
    let mut request = question();
    let mut client = Signer::request(&key(), &mut request, NOW);
    let (rejected, answer) = verify_request(&mut request, &key(), NOW + 3_600).unwrap_err();
    assert_eq!(rejected, Rejected::Tsig(TsigError::Time));
    let verdict = client.verify(&mut answer.unwrap(), NOW);
    assert_eq!(verdict, Err(BadAnswer::ClockSkew(3_600)));
    let mut request = question();
    Signer::request(&Key::new(key().name().clone(), &[6; 32]), &mut request, NOW);
    assert_eq!(verify_request(&mut request, &key(), NOW).unwrap_err().0, Rejected::Tsig(TsigError::Sig));
}

#[tokio::test(flavor = "multi_thread")]
async fn named_and_we_agree_on_what_a_wrong_clock_is() {
    let scratch = Scratch::new("wire-badtime").unwrap();
    let zone = Name::parse("example").unwrap();
    let text = "$TTL 60\n@ IN SOA ns h 1 3600 600 86400 60\n@ NS ns.elsewhere.\n";
    let transfer_key = Some(bindy_testing::Key::new(key().name(), key().secret()));
    let config = NamedConfig { transfer_key, ..NamedConfig::primary(&zone, text) };
    let named = Named::start(&scratch, "clock", &config).await.unwrap();
    let wrong = crate::server::unix_time() - 3_600;
    let mut request = question();
    let mut client = Signer::request(&key(), &mut request, wrong);
    let mut stream = std::net::TcpStream::connect(named.address()).unwrap();
    stream.write_all(&u16::try_from(request.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    let verdict = client.verify(&mut answer, wrong);
    assert!(matches!(verdict, Err(BadAnswer::ClockSkew(3_590..=3_610))), "{verdict:?}");
}
