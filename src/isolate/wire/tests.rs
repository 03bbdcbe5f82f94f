use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn bytes(message: &Message<'_>) -> Vec<u8> {
    let outgoing = message.encode();
    [&outgoing.head, outgoing.tail].concat()
}

fn identity() -> Identity {
    Identity {
        inkpot: "1.2.3".to_owned(),
        llvm: "22.1.0".to_owned(),
        triple: "x86_64-pc-linux-gnu".to_owned(),
        cpu: "znver4".to_owned(),
        features: "+avx,+sse4.2".to_owned(),
    }
}

const LEVELS: [OptLevel; 4] = [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3];

/// One message of each kind, of what is given.
fn messages<'m>(n: u64, text: &'m str, data: &'m [u8], flags: (bool, bool)) -> [Message<'m>; 5] {
    [
        Message::Begin {
            memory: n,
            levels: LEVELS[(n % 4) as usize..].to_vec(),
        },
        Message::Ready(Identity {
            features: text.to_owned(),
            ..identity()
        }),
        Message::Compile {
            number: n,
            asked: Asked {
                passes: text,
                level: LEVELS[(n / 4 % 4) as usize],
                imports: n % 3 == 1,
                pool_constants: n % 7 < 3,
                branch_targets: n % 11 < 5,
                polls: flags.0,
                separable: flags.1,
                counting: (n % 5 < 3).then_some((n as u32, -(n as i64 / 2), n)),
                counted: match n % 5 < 3 {
                    true => data
                        .iter()
                        .map(|b| (u32::from(*b), n ^ u64::from(*b)))
                        .collect(),
                    false => Cow::Borrowed(&[]),
                },
            },
            bitcode: data,
        },
        Message::Compiled {
            number: n,
            optimise: Duration::from_nanos(n),
            generate: Duration::from_nanos(n / 2),
            object: data,
        },
        Message::Refused {
            number: n,
            said: text.to_owned(),
        },
    ]
}

/// Reads a stream to its end: how many messages it had, and what came then. Nothing of it may panic.
fn read(stream: &[u8]) -> (usize, Broken) {
    let mut from = Cursor::new(stream);
    for n in 0.. {
        match Frame::receive(&mut from) {
            Ok(frame) => drop(frame.decode()),
            Err(broken) => return (n, broken),
        }
        assert!(from.position() <= stream.len() as u64);
    }
    unreachable!()
}

proptest! {
    #[test]
    fn what_is_sent_is_received(
        n: u64,
        text in ".{0,40}",
        data in proptest::collection::vec(any::<u8>(), 0..3000),
        flags: (bool, bool),
    ) {
        let all = messages(n, &text, &data, flags);
        let stream: Vec<u8> = all.iter().flat_map(bytes).collect();
        let mut from = Cursor::new(stream);
        for message in &all {
            let frame = Frame::receive(&mut from).unwrap();
            prop_assert_eq!(&frame.decode().unwrap(), message);
        }
        prop_assert!(matches!(Frame::receive(&mut from), Err(Broken::Ended)));
    }

    #[test]
    fn a_message_that_is_cut_off_is_an_end(
        which in 0usize..5,
        data in proptest::collection::vec(any::<u8>(), 1..300),
        part in 0.0f64..1.0,
    ) {
        let whole = bytes(&messages(7, "text", &data, (true, false))[which]);
        let cut = (whole.len() as f64 * part) as usize;
        let broken = Frame::receive(&mut Cursor::new(&whole[..cut])).err().unwrap();
        prop_assert!(matches!(broken, Broken::Ended), "{:?}", broken);
    }

    /// A few bytes are changed, anywhere in several messages: lengths, kinds, texts, numbers.
    #[test]
    fn damage_is_no_panic(
        n: u64,
        data in proptest::collection::vec(any::<u8>(), 0..100),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let all = messages(n, "passes<and;text>", &data, (false, true));
        let mut stream: Vec<u8> = all.iter().flat_map(bytes).collect();
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        let (many, _) = read(&stream);
        prop_assert!(many <= stream.len() / HEADER);
    }

    #[test]
    fn noise_is_no_message(noise in proptest::collection::vec(any::<u8>(), 1..200)) {
        prop_assume!(!noise.starts_with(b"ikpt") && !b"ikpt".starts_with(&noise));
        let (many, broken) = read(&noise);
        prop_assert_eq!(many, 0);
        prop_assert!(matches!(broken, Broken::Garbled(_)), "{:?}", broken);
    }
}

/// A header with any kind and length, and nothing behind it.
fn header(kind: u32, length: u64) -> Vec<u8> {
    let mut header = b"ikpt".to_vec();
    header.extend(kind.to_le_bytes());
    header.extend(length.to_le_bytes());
    header
}

/// Counts what was asked of it, and gives nothing but the header.
struct Announced(Cursor<Vec<u8>>, usize);

impl Read for Announced {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1.max(buffer.len());
        self.0.read(buffer)
    }
}

#[test]
fn no_memory_is_reserved_for_what_was_only_announced() {
    for length in [1, LONGEST - 1, LONGEST] {
        let mut from = Announced(Cursor::new(header(4, length)), 0);
        let broken = Frame::receive(&mut from).err();
        assert!(matches!(broken, Some(Broken::Ended)), "{broken:?}");
        assert!(from.1 as u64 <= BELIEVED, "{}", from.1);
    }
    for length in [LONGEST + 1, u64::MAX] {
        let broken = Frame::receive(&mut Cursor::new(header(4, length))).err();
        assert!(
            matches!(&broken, Some(Broken::Garbled(p)) if p.contains("announced")),
            "{broken:?}"
        );
    }
}

/// Lengths of texts, inside of messages that are whole.
#[test]
fn lengths_inside_are_checked() {
    for length in [4, 1 << 40, u64::MAX] {
        let mut fields = 7u64.to_le_bytes().to_vec();
        fields.extend(u64::to_le_bytes(length));
        fields.extend(b"abc");
        let mut stream = header(5, fields.len() as u64);
        stream.extend(fields);
        let frame = Frame::receive(&mut Cursor::new(stream)).unwrap();
        let broken = frame.decode().unwrap_err();
        assert!(
            matches!(&broken, Broken::Garbled(p) if p.contains("too short")),
            "{broken:?}"
        );
    }
}

#[test]
fn every_difference_is_told() {
    let ours = identity();
    assert_eq!(ours.difference(&ours), None);
    type Field = fn(&mut Identity) -> &mut String;
    let changes: [(&str, Field); 5] = [
        ("inkpot", |i| &mut i.inkpot),
        ("LLVM", |i| &mut i.llvm),
        ("target", |i| &mut i.triple),
        ("processor", |i| &mut i.cpu),
        ("features", |i| &mut i.features),
    ];
    for (what, field) in changes {
        let mut theirs = identity();
        field(&mut theirs).push('x');
        let difference = ours.difference(&theirs).unwrap();
        assert!(difference.contains(what), "{difference}");
    }
}
