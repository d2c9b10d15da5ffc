//! The pages: content made from a seed, the same for every start with the same seed. Pure.

use std::fmt::Write as _;

use crate::observe::RequestHead;

const N_TOPICS: u32 = 12;
const N_ARTICLES: u32 = 240;
const N_PRODUCTS: u32 = 40;
const N_IMAGES: u32 = 60;
/// Links of one listing.
const PAGE_ITEMS: u32 = 20;
/// Sizes of downloads, KiB.
const DOWNLOAD_KIB: [u32; 5] = [1, 16, 128, 512, 1024];

/// What sessions of visitors without an account begin with.
const VISITOR: char = 'v';

/// What goes back to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Names (lower case) and values, without length and date.
    pub headers: Vec<(&'static str, String)>,
    /// Body; not sent for HEAD and 304.
    pub body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: vec![("content-type", content_type.to_owned())],
            body: body.into(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn with_session(self, session: &str) -> Self {
        self.with(
            "set-cookie",
            format!("session={session}; Path=/; HttpOnly; SameSite=Lax"),
        )
    }

    /// One line of text for errors of the connection.
    pub fn plain(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    fn redirect(status: u16, to: String) -> Self {
        Self::plain(status, "see the other page").with("location", to)
    }

    /// Only the head goes out.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body.clear();
        self
    }
}

/// The site of one seed.
#[derive(Debug)]
pub struct Site {
    seed: u64,
}

impl Site {
    /// The site of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Answers one request; `body` is what a form or an API client sent. A page gives who has no session one of that number,
    /// as shops do.
    pub fn answer(&self, head: &RequestHead, body: &[u8], new_session: u64) -> Answer {
        let answer = self.answer_known(head, body);
        let is_page = answer.status == 200
            && answer
                .headers
                .iter()
                .any(|(name, value)| *name == "content-type" && value.starts_with("text/html"));
        if !is_page || session(head).is_some() {
            return answer;
        }
        answer.with_session(&format!("{VISITOR}{new_session:016x}"))
    }

    fn answer_known(&self, head: &RequestHead, body: &[u8]) -> Answer {
        let (path, query) = head.path_and_query();
        let (Ok(path), Ok(query)) = (std::str::from_utf8(path), std::str::from_utf8(query)) else {
            return Answer::plain(400, "the path is not UTF-8");
        };
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let answer = match head.method.as_slice() {
            b"GET" | b"HEAD" => self.page(head, &parts, query),
            b"POST" => self.post(&parts, body),
            b"OPTIONS" => Answer::new(204, "text/plain", "").with("allow", "GET, HEAD, POST, OPTIONS"),
            _ => Answer::plain(405, "not here").with("allow", "GET, HEAD, POST, OPTIONS"),
        };
        let is_known = head.header("if-none-match").is_some_and(|tag| {
            answer
                .headers
                .iter()
                .any(|(name, value)| *name == "etag" && value.as_bytes() == tag)
        });
        if is_known && answer.status == 200 {
            return Answer {
                status: 304,
                ..answer
            }
            .without_body();
        }
        answer
    }

    fn page(&self, head: &RequestHead, parts: &[&str], query: &str) -> Answer {
        match *parts {
            [""] => self.home(),
            ["topics", n] => self.numbered(n, N_TOPICS, Self::topic),
            ["articles", n] => self.numbered(n, N_ARTICLES, Self::article),
            ["products", n] => self.numbered(n, N_PRODUCTS, Self::product),
            ["about" | "contact" | "privacy" | "terms" | "help" | "jobs"] => html(
                parts[0],
                &format!("<p>{}</p>", self.text(parts[0].len() as u64, 80)),
            ),
            ["search"] => self.search(query),
            ["login"] => html("Login", LOGIN_FORM),
            ["account"] => account(head),
            ["logout"] => Answer::redirect(303, "/".into()).with("set-cookie", "session=; Max-Age=0; Path=/"),
            ["go", n] => match n.parse::<u32>() {
                Ok(n) => Answer::redirect(302, format!("/articles/{}", n % N_ARTICLES)),
                Err(_) => not_found(),
            },
            ["old", ..] => Answer::redirect(301, format!("/{}", parts[1..].join("/"))),
            ["api", "items"] => self.api_items(query),
            ["api", "items", n] => match n.parse::<u32>() {
                Ok(n) if n < N_PRODUCTS => json(&self.api_item(n)),
                _ => Answer::new(404, "application/json", "{\"error\":\"no such item\"}\n"),
            },
            ["api", "session"] => json(&format!("{{\"signed_in\":{}}}", signed_in(head).is_some())),
            ["health"] => Answer::plain(200, "ok"),
            ["robots.txt"] => Answer::plain(
                200,
                "User-agent: *\nDisallow: /account\nDisallow: /api/\nSitemap: /sitemap.xml",
            ),
            ["sitemap.xml"] => sitemap(),
            ["feed.xml"] => self.feed(),
            ["assets", name] => self.asset(name),
            ["images", name] => match name.strip_suffix(".png").and_then(|n| n.parse::<u32>().ok()) {
                Some(n) if n < N_IMAGES => self.cached("image/png", png(self.seed, n)),
                _ => not_found(),
            },
            ["favicon.ico"] => self.cached("image/png", png(self.seed, 0)),
            ["download", n] => match n.parse::<usize>().ok().and_then(|n| DOWNLOAD_KIB.get(n)) {
                Some(kib) => self.cached(
                    "application/octet-stream",
                    noise(self.seed, (*kib as usize) << 10),
                ),
                None => not_found(),
            },
            _ => not_found(),
        }
    }

    fn post(&self, parts: &[&str], body: &[u8]) -> Answer {
        let form = String::from_utf8_lossy(body);
        match *parts {
            ["login"] => {
                let user = parameter(&form, "user").unwrap_or_default();
                // One rule for all accounts, so that clients need no list of passwords.
                if !user.is_empty() && parameter(&form, "password") == Some(&format!("pw-{user}")) {
                    let session = hash(self.seed, user.as_bytes());
                    Answer::redirect(303, "/account".into()).with_session(&format!("{session:016x}"))
                } else {
                    Answer {
                        status: 401,
                        ..html("Login", &format!("<p>Wrong name or password.</p>{LOGIN_FORM}"))
                    }
                }
            }
            ["api", "events"] => json(&format!("{{\"accepted\":{}}}", body.len())),
            ["contact"] => html("Thank you", "<p>We will answer soon.</p>"),
            _ => not_found(),
        }
    }

    fn numbered(&self, n: &str, count: u32, page: impl Fn(&Self, u32) -> Answer) -> Answer {
        match n.parse::<u32>() {
            Ok(n) if n < count => page(self, n),
            _ => not_found(),
        }
    }

    fn home(&self) -> Answer {
        let mut body = "<h2>Topics</h2>".to_owned();
        body += &list("topics", 0..N_TOPICS, |n| self.title("topic", n));
        body += "<h2>New</h2>";
        let first = u32::try_from(mix(self.seed) % u64::from(N_ARTICLES - PAGE_ITEMS)).unwrap_or(0);
        body += &list("articles", first..first + PAGE_ITEMS, |n| {
            self.title("article", n)
        });
        body += "<h2>Shop</h2>";
        body += &list("products", 0..N_PRODUCTS, |n| self.title("product", n));
        html("Field Notes", &(body + &images(0, 3)))
    }

    fn topic(&self, n: u32) -> Answer {
        let articles = (0..PAGE_ITEMS).map(|i| n + i * N_TOPICS);
        let body = list("articles", articles, |n| self.title("article", n));
        html(&self.title("topic", n), &(body + &images(n, 2)))
    }

    fn article(&self, n: u32) -> Answer {
        let mut body = String::new();
        for paragraph in 0..4 + u64::from(n % 5) {
            let text = self.text(u64::from(n) << 8 | paragraph, 60);
            write!(body, "<p>{text}</p>").expect("writing to a String does not fail");
        }
        let related = (1..=5).map(|i| (n * 7 + i * 31) % N_ARTICLES);
        body += &list("articles", related, |n| self.title("article", n));
        write!(
            body,
            "<p><a href=\"/topics/{}\">More of this</a> <a href=\"/go/{}\">Random</a></p>",
            n % N_TOPICS,
            n + 17
        )
        .expect("writing to a String does not fail");
        html(
            &self.title("article", n),
            &(body + &images(n % N_IMAGES, 2 + n % 3)),
        )
    }

    fn product(&self, n: u32) -> Answer {
        let body = format!(
            "<p>{}</p><p>Price: {}.90</p><p><a href=\"/download/{}\">Data sheet</a></p>",
            self.text(u64::from(n) << 20, 40),
            5 + n * 3,
            n % 3
        );
        let others = (1..=4).map(|i| (n + i * 9) % N_PRODUCTS);
        let body = body + &list("products", others, |n| self.title("product", n)) + &images(n, 4);
        html(&self.title("product", n), &body)
    }

    fn search(&self, query: &str) -> Answer {
        let words = parameter(query, "q").unwrap_or_default();
        let first = u32::try_from(hash(self.seed, words.as_bytes()) % 200).unwrap_or(0);
        let n_found = if words.is_empty() { 0 } else { 10 };
        let found = list("articles", first..first + n_found, |n| self.title("article", n));
        html("Search", &format!("{SEARCH_FORM}{found}"))
    }

    fn feed(&self) -> Answer {
        let mut text =
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rss version=\"2.0\"><channel><title>Field Notes</title>\n"
                .to_owned();
        for n in 0..PAGE_ITEMS {
            let title = self.title("article", n);
            writeln!(
                text,
                "<item><title>{title}</title><link>/articles/{n}</link></item>"
            )
            .expect("writing to a String does not fail");
        }
        self.cached("application/rss+xml", text + "</channel></rss>\n")
    }

    fn api_items(&self, query: &str) -> Answer {
        let page = parameter(query, "page")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0_u32);
        let items: Vec<_> = (0..N_PRODUCTS)
            .skip(page.min(N_PRODUCTS) as usize * 10)
            .take(10)
            .map(|n| self.api_item(n))
            .collect();
        json(&format!("{{\"page\":{page},\"items\":[{}]}}", items.join(",")))
    }

    fn api_item(&self, n: u32) -> String {
        format!(
            "{{\"id\":{n},\"name\":\"{}\",\"price\":{}.9}}",
            self.title("product", n),
            5 + n * 3
        )
    }

    fn asset(&self, name: &str) -> Answer {
        match name {
            "site.css" => self.cached("text/css", STYLE),
            "app.js" => self.cached(
                "text/javascript",
                format!(
                    "/* {} */\ndocument.documentElement.dataset.ready='1';\n",
                    self.text(1, 400)
                ),
            ),
            "menu.js" => self.cached("text/javascript", format!("/* {} */\n", self.text(2, 150))),
            _ => not_found(),
        }
    }

    fn cached(&self, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let tag = format!("\"{:016x}\"", hash(self.seed, &body));
        Answer::new(200, content_type, body)
            .with("etag", tag)
            .with("cache-control", "max-age=60")
    }

    fn title(&self, kind: &str, n: u32) -> String {
        let mut at = mix(self.seed ^ u64::from(n) << 8 ^ kind.len() as u64);
        let mut word = || {
            at = mix(at);
            WORDS[usize::try_from(at % WORDS.len() as u64).unwrap_or(0)]
        };
        format!("{} {} {n}", word(), word())
    }

    fn text(&self, key: u64, n_words: u32) -> String {
        let mut at = mix(self.seed ^ key);
        let mut text = String::new();
        for n in 0..n_words {
            at = mix(at);
            text += WORDS[usize::try_from(at % WORDS.len() as u64).unwrap_or(0)];
            text += if n % 11 == 10 { ". " } else { " " };
        }
        text
    }
}

fn account(head: &RequestHead) -> Answer {
    match signed_in(head) {
        Some(_) => html(
            "Your account",
            "<p>Signed in. <a href=\"/logout\">Log out</a></p>",
        )
        .with("cache-control", "no-store"),
        None => Answer::redirect(302, "/login".into()),
    }
}

/// The session of somebody with an account.
fn signed_in(head: &RequestHead) -> Option<&str> {
    session(head).filter(|session| !session.starts_with(VISITOR))
}

fn session(head: &RequestHead) -> Option<&str> {
    let mut cookies = head
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"cookie"))
        .filter_map(|(_, value)| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(';'));
    cookies.find_map(|cookie| cookie.trim().strip_prefix("session="))
}

/// Value of a parameter, as it stands; the demo's values need no decoding.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}

fn not_found() -> Answer {
    Answer {
        status: 404,
        ..html("Not found", "<p>There is no such page.</p>")
    }
}

fn json(text: &str) -> Answer {
    Answer::new(200, "application/json", format!("{text}\n")).with("cache-control", "no-store")
}

fn html(title: &str, body: &str) -> Answer {
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"/assets/site.css\">\
         <script src=\"/assets/app.js\" defer></script><script src=\"/assets/menu.js\" defer></script></head>\
         <body><nav><a href=\"/\">Field Notes</a> <a href=\"/search\">Search</a> <a href=\"/login\">Login</a> \
         <a href=\"/about\">About</a> <a href=\"/help\">Help</a></nav><h1>{title}</h1>{body}</body></html>\n"
    );
    Answer::new(200, "text/html; charset=utf-8", page)
}

fn list(folder: &str, numbers: impl IntoIterator<Item = u32>, title: impl Fn(u32) -> String) -> String {
    let mut text = "<ul>".to_owned();
    for n in numbers {
        write!(text, "<li><a href=\"/{folder}/{n}\">{}</a></li>", title(n))
            .expect("writing to a String does not fail");
    }
    text + "</ul>"
}

fn images(first: u32, count: u32) -> String {
    (0..count).fold(String::new(), |text, i| {
        let n = (first * 3 + i) % N_IMAGES;
        text + &format!("<img src=\"/images/{n}.png\" alt=\"figure {n}\" width=\"96\" height=\"96\">")
    })
}

fn sitemap() -> Answer {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<urlset>\n".to_owned();
    for (folder, count) in [
        ("topics", N_TOPICS),
        ("articles", N_ARTICLES),
        ("products", N_PRODUCTS),
    ] {
        for n in 0..count {
            writeln!(text, "<url><loc>/{folder}/{n}</loc></url>").expect("writing to a String does not fail");
        }
    }
    Answer::new(200, "application/xml", text + "</urlset>\n")
}

/// A grey picture of 64 to 127 pixels a side, uncompressed inside (deflate's stored blocks).
fn png(seed: u64, n: u32) -> Vec<u8> {
    let side = 64 + n % 64;
    let pixels = noise(seed ^ u64::from(n) << 32, (side * side) as usize);
    let mut raw = Vec::with_capacity(pixels.len() + side as usize);
    for row in pixels.chunks(side as usize) {
        raw.push(0);
        raw.extend_from_slice(row);
    }
    let mut zlib = vec![0x78, 0x01];
    let mut blocks = raw.chunks(0xffff).peekable();
    while let Some(block) = blocks.next() {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        zlib.push(u8::from(blocks.peek().is_none()));
        zlib.extend(len.to_le_bytes());
        zlib.extend((!len).to_le_bytes());
        zlib.extend_from_slice(block);
    }
    zlib.extend(adler32(&raw).to_be_bytes());
    let mut header = Vec::new();
    header.extend(side.to_be_bytes());
    header.extend(side.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header.as_slice()), (b"IDAT", &zlib), (b"IEND", &[])] {
        file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        let start = file.len();
        file.extend_from_slice(kind);
        file.extend_from_slice(data);
        let crc = crc32fast::hash(&file[start..]);
        file.extend(crc.to_be_bytes());
    }
    file
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

fn noise(seed: u64, n_bytes: usize) -> Vec<u8> {
    let mut at = seed;
    let mut bytes = Vec::with_capacity(n_bytes + 8);
    while bytes.len() < n_bytes {
        at = mix(at);
        bytes.extend(at.to_le_bytes());
    }
    bytes.truncate(n_bytes);
    bytes
}

/// `SplitMix64`: steps and finalises.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(mix(seed), |at, part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        mix(at ^ u64::from_le_bytes(word))
    })
}

const WORDS: [&str; 40] = [
    "river", "stone", "north", "paper", "garden", "signal", "winter", "market", "engine", "harbour",
    "valley", "lantern", "copper", "meadow", "window", "bridge", "silver", "forest", "island", "summer",
    "letter", "orchard", "tunnel", "feather", "marble", "canvas", "thunder", "compass", "village", "timber",
    "anchor", "prairie", "mirror", "granite", "saddle", "beacon", "quarry", "linen", "cedar", "ember",
];
const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:50rem;margin:1rem auto;padding:0 1rem;color:#222}\
    nav a{margin-right:1rem}img{margin:.25rem;border-radius:.25rem}h1{font-size:1.6rem}\n";
const SEARCH_FORM: &str = "<form action=\"/search\"><input name=\"q\"><button>Search</button></form>";
const LOGIN_FORM: &str = "<form method=\"post\" action=\"/login\"><input name=\"user\"> \
    <input name=\"password\" type=\"password\"> <button>Log in</button></form>";

#[cfg(test)]
mod tests {
    use super::*;

    fn get(target: &str, headers: &[(&str, &str)]) -> Answer {
        let head = RequestHead {
            method: b"GET".to_vec(),
            target: target.into(),
            headers: headers
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
                .collect(),
            ..RequestHead::default()
        };
        Site::new(7).answer(&head, b"", 1)
    }

    #[test]
    fn every_link_of_every_page_leads_to_a_page() {
        let mut seen = std::collections::BTreeSet::from(["/".to_owned()]);
        let mut open = vec!["/".to_owned()];
        while let Some(target) = open.pop() {
            let answer = get(&target, &[]);
            assert!(
                matches!(answer.status, 200 | 302 | 303),
                "{target}: {}",
                answer.status
            );
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            for quote in ["href=\"", "src=\""] {
                for part in body.split(quote).skip(1) {
                    let link = part.split('"').next().unwrap().to_owned();
                    if seen.insert(link.clone()) {
                        open.push(link);
                    }
                }
            }
        }
        let n_pages = seen.iter().filter(|link| {
            link.starts_with("/articles/") || link.starts_with("/topics/") || link.starts_with("/products/")
        });
        assert_eq!(n_pages.count(), 292);
    }

    #[test]
    fn known_content_is_not_sent_again() {
        let first = get("/images/3.png", &[]);
        let tag = &first.headers.iter().find(|(name, _)| *name == "etag").unwrap().1;
        let second = get("/images/3.png", &[("If-None-Match", tag)]);
        assert_eq!((second.status, second.body.len()), (304, 0));
        assert_eq!(get("/images/3.png", &[]), first);
    }

    #[test]
    fn only_the_right_password_signs_in() {
        let post = |body: &str| {
            let head = RequestHead {
                method: b"POST".to_vec(),
                target: b"/login".to_vec(),
                ..RequestHead::default()
            };
            Site::new(7).answer(&head, body.as_bytes(), 1)
        };
        assert_eq!(post("user=ann&password=x").status, 401);
        let answer = post("user=ann&password=pw-ann");
        let cookie = &answer
            .headers
            .iter()
            .find(|(name, _)| *name == "set-cookie")
            .unwrap()
            .1;
        let cookie = cookie.split(';').next().unwrap();
        assert_eq!(
            (answer.status, get("/account", &[("Cookie", cookie)]).status),
            (303, 200)
        );
        assert_eq!(get("/account", &[]).status, 302);
    }

    #[test]
    fn a_page_gives_a_session_to_who_has_none() {
        let given = |answer: &Answer| {
            let mut headers = answer.headers.iter();
            headers
                .find(|(name, _)| *name == "set-cookie")
                .map(|(_, value)| value.split(';').next().unwrap().to_owned())
        };
        let cookie = given(&get("/topics/3", &[])).unwrap();
        assert_eq!(cookie, "session=v0000000000000001");
        assert_eq!(given(&get("/topics/3", &[("cookie", &cookie)])), None);
        assert_eq!(given(&get("/api/items/3", &[])), None, "only pages do");
        assert_eq!(
            get("/account", &[("cookie", &cookie)]).status,
            302,
            "it is no account"
        );
    }

    #[test]
    fn what_is_not_there_is_404() {
        for target in [
            "/articles/240",
            "/articles/x",
            "/wp-login.php",
            "/images/99.png",
            "/download/9",
        ] {
            assert_eq!(get(target, &[]).status, 404, "{target}");
        }
    }
}
