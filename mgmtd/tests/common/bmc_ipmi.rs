//! A BMC that speaks IPMI 2.0 over UDP on the loopback, with the faults real ones have. It shares nothing with the driver: what both
//! say alike was read twice in the standard.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may assert by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test uses a part, and so does the crate itself")]

use aes::cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{net::UdpSocket, task::JoinHandle};

/// Its user and password: as long as both can be.
pub const USER: &str = "lq-fence-cluster";
pub const PASSWORD: &str = "twenty bytes long ok";
const GUID: [u8; 16] = *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";

/// How it behaves from now on.
#[derive(Clone, Debug, Default)]
pub struct Manners {
    /// It answers nothing.
    pub silent: bool,
    /// Of so many datagrams each but the last gets no answer.
    pub drops: u32,
    /// It has no IPMI 2.0.
    pub old: bool,
    /// It refuses cipher suite 17.
    pub no_17: bool,
    /// It refuses cipher suite 3.
    pub no_3: bool,
    /// It takes what is proposed, but for encryption.
    pub weak: bool,
    /// It has a key of its own (K_G).
    pub own_key: bool,
    /// It lets the user only look.
    pub user_only: bool,
    /// What it is told to do it takes, and does not do.
    pub deaf: bool,
    /// What it is told to do it refuses with this.
    pub refuses: Option<u8>,
    /// So many questions later it is off.
    pub lingers: u32,
    /// The codes of its answers are wrong.
    pub tampered: bool,
    /// Before each answer comes one that was seen already, and one that is nothing at all.
    pub noisy: bool,
}

#[derive(Default)]
struct Session {
    /// 17, or 3.
    strong: bool,
    theirs: [u8; 4],
    rm: [u8; 16],
    rc: [u8; 16],
    who: Vec<u8>,
    sik: Vec<u8>,
    open: bool,
    level: u8,
    last: u32,
    sent: u32,
    before: Vec<u8>,
}

struct Inner {
    manners: Manners,
    on: bool,
    left: Option<u32>,
    dropped: u32,
    told: Vec<u8>,
    suites: Vec<u8>,
    password: String,
    session: Session,
    closed: u32,
    /// RAKP 3 with a code of the password came.
    proofs: u32,
}

/// The BMC. It ends with the test.
pub struct FakeIpmi {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

impl Drop for FakeIpmi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeIpmi {
    /// Of a machine which is on.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            manners: Manners::default(),
            on: true,
            left: None,
            dropped: 0,
            told: vec![],
            suites: vec![],
            password: PASSWORD.into(),
            session: Session::default(),
            closed: 0,
            proofs: 0,
        }));
        let serving = inner.clone();
        let server = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let answers = serving.lock().unwrap().receive(&buffer[..length]);
                for answer in answers {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, inner, server }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn manners(&self, manners: Manners) {
        self.inner().manners = manners;
    }

    /// The machine loses its power, or gets it.
    pub fn power(&self, on: bool) {
        self.inner().on = on;
    }

    pub fn change_password(&self, password: &str) {
        self.inner().password = password.into();
    }

    /// What it was told to do so far, as the numbers of chassis control.
    pub fn told(&self) -> Vec<u8> {
        self.inner().told.clone()
    }

    /// The cipher suites that were proposed so far.
    pub fn suites(&self) -> Vec<u8> {
        self.inner().suites.clone()
    }

    /// How many sessions were closed.
    pub fn closed(&self) -> u32 {
        self.inner().closed
    }

    /// How often somebody showed that they know a password.
    pub fn proofs(&self) -> u32 {
        self.inner().proofs
    }

    /// As `PUT /hosts/{id}/bmc` takes it.
    pub fn settings(&self) -> Value {
        let spec = json!({"protocol": "ipmi", "address": self.address.to_string(), "username": USER});
        json!({"spec": spec, "password": PASSWORD})
    }
}

fn mac(strong: bool, key: &[u8], data: &[u8]) -> Vec<u8> {
    if strong {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    } else {
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key).unwrap();
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    }
}

fn sum(bytes: &[u8]) -> u8 {
    0u8.wrapping_sub(bytes.iter().fold(0, |a, b| a.wrapping_add(*b)))
}

/// The answer to a message, with its sums.
fn answer(message: &[u8], code: u8, data: &[u8]) -> Vec<u8> {
    let mut out = vec![message[3], message[1] | 4];
    out.push(sum(&out));
    let mut rest = vec![0x20, message[4], message[5], code];
    rest.extend(data);
    rest.push(sum(&rest));
    out.extend(rest);
    out
}

fn setup(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![6, 0, 0xFF, 7, 6, kind, 0, 0, 0, 0, 0, 0, 0, 0, body.len() as u8, 0];
    out.extend(body);
    out
}

impl Inner {
    fn receive(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        assert_eq!(datagram[..4], [6, 0, 0xFF, 7]);
        self.dropped += 1;
        if self.manners.silent || self.dropped < self.manners.drops {
            return vec![];
        }
        self.dropped = 0;
        let body = datagram.get(16..).unwrap_or_default();
        let found = match (datagram[4], datagram[5]) {
            (0, _) => Some(self.capabilities(&datagram[14..])),
            (6, 0x10) => Some(setup(0x11, &self.open(body))),
            (6, 0x12) => Some(setup(0x13, &self.rakp1(body))),
            (6, 0x14) => self.rakp3(body).map(|body| setup(0x15, &body)),
            (6, 0xC0) => self.command(datagram),
            other => panic!("nobody sends {other:?}"),
        };
        let Some(found) = found else { return vec![] };
        let mut all = vec![];
        if self.manners.noisy {
            all.extend([vec![6, 0, 0xFF, 7, 6], self.session.before.clone()]);
        }
        self.session.before.clone_from(&found);
        all.push(found);
        all
    }

    fn capabilities(&self, message: &[u8]) -> Vec<u8> {
        assert_eq!((message[1], message[5], message[6]), (0x18, 0x38, 0x8E));
        let extended = if self.manners.old { [1, 0x14, 0] } else { [1, 0x94, 2] };
        let message = answer(message, 0, &[extended[0], extended[1], 4, extended[2], 0, 0, 0, 0]);
        [&[6, 0, 0xFF, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, message.len() as u8][..], &message].concat()
    }

    fn open(&mut self, body: &[u8]) -> Vec<u8> {
        let (tag, theirs) = (body[0], &body[4..8]);
        let strong = match (body[12], body[20], body[28]) {
            (3, 4, 1) => true,
            (1, 1, 1) => false,
            other => panic!("nobody proposes {other:?}"),
        };
        self.suites.push(if strong { 17 } else { 3 });
        if if strong { self.manners.no_17 } else { self.manners.no_3 } {
            return [&[tag, 0x11, 0, 0][..], theirs].concat();
        }
        self.session = Session { strong, theirs: theirs.try_into().unwrap(), ..Session::default() };
        let mut algorithms = body[8..32].to_vec();
        if self.manners.weak {
            algorithms[20] = 0;
        }
        [&[tag, 0, 3, 0][..], theirs, b"bmc!", &algorithms].concat()
    }

    fn rakp1(&mut self, body: &[u8]) -> Vec<u8> {
        assert_eq!(&body[4..8], b"bmc!");
        let session = &mut self.session;
        session.rm = body[8..24].try_into().unwrap();
        session.rc = rand::random();
        assert_eq!(body[24], 0x13, "operator, by the name alone");
        session.who = [&[body[24], body[27]], &body[28..28 + usize::from(body[27])]].concat();
        let head = |status| [&[body[0], status, 0, 0][..], &session.theirs].concat();
        if &session.who[2..] != USER.as_bytes() {
            return head(0x0D);
        }
        let data = [&session.theirs[..], b"bmc!", &session.rm, &session.rc, &GUID, &session.who].concat();
        let code = mac(session.strong, self.password.as_bytes(), &data);
        [&head(0)[..], &session.rc, &GUID, &code].concat()
    }

    fn rakp3(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        if body[1] != 0 {
            assert_eq!(body.len(), 8, "whoever gives up says nothing more");
            return None;
        }
        self.proofs += 1;
        let session = &mut self.session;
        let key = self.password.as_bytes();
        let code = mac(session.strong, key, &[&session.rc[..], &session.theirs, &session.who].concat());
        assert_eq!(body[8..], code);
        let own: &[u8] = if self.manners.own_key { b"a key of its own" } else { key };
        session.sik = mac(session.strong, own, &[&session.rm[..], &session.rc, &session.who].concat());
        let mut code = mac(session.strong, &session.sik, &[&session.rm[..], b"bmc!", &GUID].concat());
        code.truncate(if session.strong { 16 } else { 12 });
        session.open = true;
        Some([&[body[0], 0, 0, 0][..], &session.theirs, &code].concat())
    }

    fn command(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let session = &mut self.session;
        if !session.open || &datagram[6..10] != b"bmc!" {
            return None;
        }
        let check = if session.strong { 16 } else { 12 };
        let (k1, k2) =
            (mac(session.strong, &session.sik, &[1; 20]), mac(session.strong, &session.sik, &[2; 20]));
        let (covered, code) = datagram[4..].split_at(datagram.len() - 4 - check);
        assert_eq!(mac(session.strong, &k1, covered)[..check], *code);
        assert_eq!(covered.len() % 4, 0);
        let sequence = u32::from_le_bytes(covered[6..10].try_into().unwrap());
        assert!(sequence > session.last, "a number is used once");
        session.last = sequence;
        let length = usize::from(covered[10]);
        let (iv, sealed) = covered[12..12 + length].split_at(16);
        let mut clear = sealed.to_vec();
        let mut cipher = cbc::Decryptor::<aes::Aes128>::new(k2[..16].into(), iv.into());
        clear.chunks_exact_mut(16).for_each(|block| cipher.decrypt_block_mut(block.into()));
        clear.truncate(clear.len() - 1 - usize::from(clear[clear.len() - 1]));
        assert_eq!((sum(&clear[..3]), sum(&clear[3..])), (0, 0));
        let message = self.respond(&clear)?;
        let session = &mut self.session;
        session.sent += 1;
        let mut clear = message;
        let pad = 15 - clear.len() % 16;
        clear.extend((1..).take(pad));
        clear.push(pad as u8);
        let iv: [u8; 16] = rand::random();
        let mut cipher = cbc::Encryptor::<aes::Aes128>::new(k2[..16].into(), &iv.into());
        clear.chunks_exact_mut(16).for_each(|block| cipher.encrypt_block_mut(block.into()));
        let mut out = [&[6, 0xC0], &session.theirs[..], &session.sent.to_le_bytes()].concat();
        out.extend([16 + clear.len() as u8, 0]);
        out.extend(iv);
        out.extend(clear);
        let pad = (4 - (out.len() + 2) % 4) % 4;
        out.extend(vec![0xFF; pad]);
        out.extend([pad as u8, 7]);
        let mut code = mac(session.strong, &k1, &out);
        code[0] ^= u8::from(self.manners.tampered);
        out.extend(&code[..check]);
        Some([&[6, 0, 0xFF, 7], &out[..]].concat())
    }

    fn respond(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let data = &message[6..message.len() - 1];
        Some(match (message[1] >> 2, message[5]) {
            (6, 0x3B) if self.manners.user_only => answer(message, 0x81, &[]),
            (6, 0x3B) => {
                self.session.level = data[0];
                answer(message, 0, &[data[0]])
            }
            (6, 0x3C) => {
                assert_eq!(data, b"bmc!");
                (self.session.open, self.closed) = (false, self.closed + 1);
                answer(message, 0, &[])
            }
            (6, 0x01) => answer(message, 0, &[0x20, 1, 2, 0x13, 2, 0xBF, 0xA2, 2, 0, 0, 1, 0, 0, 0, 0]),
            (0, 0x01) => {
                if let Some(left) = &mut self.left {
                    match left.checked_sub(1) {
                        Some(less) => *left = less,
                        None => (self.left, self.on) = (None, false),
                    }
                }
                answer(message, 0, &[0x20 | u8::from(self.on), 0, 0x40, 0])
            }
            (0, 0x02) if self.session.level < 3 => answer(message, 0xD4, &[]),
            (0, 0x02) => {
                self.told.push(data[0]);
                match self.manners.refuses {
                    Some(code) => return Some(answer(message, code, &[])),
                    None if self.manners.deaf => {}
                    None if self.manners.lingers > 0 => self.left = Some(self.manners.lingers),
                    None => self.on = data[0] == 1,
                }
                answer(message, 0, &[])
            }
            _ => answer(message, 0xC1, &[]),
        })
    }
}
