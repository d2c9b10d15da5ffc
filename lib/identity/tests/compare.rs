//! Honest clients contradict nothing, liars contradict where they must: the catalogue against itself and against known cases.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ja4_identity::weights::{CAP_BITS, FLOOR_BITS, TRANSPORT_CAP_BITS};
use ja4_identity::{Catalogue, Dimension, Kind, Matrix, Observation, Tcp, Verdict};

use Dimension::{Address, HeaderOrder, Http2, Ja4};

const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const CHROME_142: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const CHROME_156: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
const FIREFOX_153: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
const SAFARI_18: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15";
const CHROME_ON_IOS: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                             CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1";
const GOOGLEBOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

/// One table of `testdata/identities`: lines of columns.
fn table(name: &str) -> Vec<Vec<String>> {
    let path = format!(
        "{}/../../testdata/identities/{name}.tsv",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect()
}

/// What each client of the catalogue showed.
#[derive(Debug, Default)]
struct Shown {
    /// JA4, normal form, ALPN, version.
    tls: Vec<[String; 4]>,
    h2_fps: Vec<String>,
    orders: Vec<String>,
}

fn shown_by_client() -> BTreeMap<String, Shown> {
    let mut clients: BTreeMap<String, Shown> = BTreeMap::new();
    for line in table("tls") {
        for client in line[4].split(',') {
            let values = [0, 1, 2, 3].map(|i| line[i].clone());
            clients.entry(client.to_owned()).or_default().tls.push(values);
        }
    }
    for line in table("http2") {
        for client in line[1].split(',') {
            clients
                .entry(client.to_owned())
                .or_default()
                .h2_fps
                .push(line[0].clone());
        }
    }
    for line in table("headers") {
        for client in line[3].split(',') {
            clients
                .entry(client.to_owned())
                .or_default()
                .orders
                .push(line[2].clone());
        }
    }
    clients
}

#[test]
fn every_line_of_the_catalogue_agrees_with_its_own_user_agent() {
    let catalogue = Catalogue::embedded();
    let shown = shown_by_client();
    let mut n_cells = 0;
    for line in catalogue.lines() {
        let Some(shown) = shown.get(line.id) else { continue };
        let none = [Default::default()];
        let no_text = [String::new()];
        let tls = if shown.tls.is_empty() {
            &none[..]
        } else {
            &shown.tls
        };
        let h2_fps = if shown.h2_fps.is_empty() {
            &no_text[..]
        } else {
            &shown.h2_fps
        };
        // Each value alone, and all orders together.
        let all: Vec<&str> = shown.orders.iter().map(String::as_str).collect();
        let mut order_sets: Vec<Vec<&str>> = all.iter().map(|order| vec![*order]).collect();
        order_sets.push(all);
        for [ja4, ja4_norm, alpn, tls_version] in tls {
            for h2_fp in h2_fps {
                for orders in &order_sets {
                    let agents = [line.user_agent];
                    let seen = Observation {
                        user_agents: if line.user_agent.is_empty() { &[] } else { &agents },
                        ja4,
                        ja4_norm,
                        alpn,
                        tls_version,
                        h2_fp,
                        header_orders: orders,
                        header_flags_or: u32::MAX,
                        header_flags_and: 0,
                        ..Observation::new(SOMEWHERE)
                    };
                    let matrix = catalogue.compare(&seen);
                    n_cells += matrix.cells.len();
                    for cell in &matrix.cells {
                        let is_wrong = cell.verdict == Verdict::Contradicts;
                        assert!(!is_wrong, "{}: {cell:?}\n{seen:?}", line.id);
                    }
                }
            }
        }
    }
    assert!(n_cells > 4_000, "{n_cells}");
}

#[test]
fn every_browser_line_is_recognised() {
    let catalogue = Catalogue::embedded();
    let shown = shown_by_client();
    for line in catalogue
        .lines()
        .iter()
        .filter(|line| line.claims.engine.is_some())
    {
        for [ja4, ja4_norm, ..] in &shown[line.id].tls {
            let matrix = catalogue.compare(&Observation {
                user_agents: &[line.user_agent],
                ja4,
                ja4_norm,
                ..Observation::new(SOMEWHERE)
            });
            let cell = matrix.cell(Ja4).unwrap();
            assert_eq!(cell.verdict, Verdict::Agrees, "{}: {cell:?}", line.id);
            assert!(!cell.source.is_empty());
        }
    }
}

/// Values of a client of the catalogue, by its id.
fn of(id: &str) -> Shown {
    shown_by_client()
        .remove(id)
        .unwrap_or_else(|| panic!("{id} is in the catalogue"))
}

#[track_caller]
fn compare(agent: &str, tls: &str, http: &str, address: IpAddr) -> Matrix {
    let (tls, http) = (of(tls), of(http));
    let [ja4, ja4_norm, alpn, tls_version] = &tls.tls[0];
    let orders: Vec<&str> = http.orders.iter().map(String::as_str).collect();
    Catalogue::embedded().compare(&Observation {
        user_agents: &[agent],
        ja4,
        ja4_norm,
        alpn,
        tls_version,
        h2_fp: http.h2_fps.first().map_or("", String::as_str),
        header_orders: &orders,
        header_flags_or: u32::MAX,
        ..Observation::new(address)
    })
}

fn contradicting(matrix: &Matrix) -> Vec<Dimension> {
    let cells = matrix
        .cells
        .iter()
        .filter(|cell| cell.verdict == Verdict::Contradicts);
    cells.map(|cell| cell.dimension).collect()
}

/// A User-Agent over the TLS of one client and the HTTP of another: exactly these dimensions contradict.
#[track_caller]
fn check(agent: &str, tls: &str, http: &str, expected: &[Dimension], flagged: bool) {
    let matrix = compare(agent, tls, http, SOMEWHERE);
    assert_eq!(contradicting(&matrix), expected, "{:#?}", matrix.cells);
    assert_eq!(
        matrix.is_flagged(),
        flagged,
        "{} bits {:#?}",
        matrix.bits(),
        matrix.cells
    );
    for cell in &matrix.cells {
        assert_eq!(cell.bits > 0.0, cell.verdict == Verdict::Contradicts);
        assert!(cell.why.ends_with('.'), "{}", cell.why);
    }
}

#[test]
fn libraries_under_a_browsers_name_contradict() {
    check(
        CHROME_142,
        "python-requests",
        "python-requests",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        CHROME_142,
        "python-httpx",
        "python-httpx",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        CHROME_142,
        "python-httpx-http2",
        "python-httpx-http2",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        CHROME_142,
        "python-aiohttp",
        "python-aiohttp",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        CHROME_142,
        "python-urllib",
        "python-urllib",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        CHROME_142,
        "python-scrapy",
        "python-scrapy",
        &[Ja4, HeaderOrder],
        true,
    );
    check(CHROME_142, "curl", "curl", &[Ja4, HeaderOrder, Http2], true);
    check(CHROME_142, "curl-http1", "curl-http1", &[Ja4, HeaderOrder], true);
    check(CHROME_142, "wget", "wget", &[Ja4, HeaderOrder], true);
    check(CHROME_142, "node-fetch", "node-fetch", &[Ja4, HeaderOrder], true);
    check(CHROME_142, "node-axios", "node-axios", &[Ja4, HeaderOrder], true);
    check(
        CHROME_142,
        "go-net-http",
        "go-net-http",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        CHROME_142,
        "go-net-http-http1",
        "go-net-http-http1",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        CHROME_142,
        "java-client",
        "java-client",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        CHROME_142,
        "ruby-net-http",
        "ruby-net-http",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        FIREFOX_153,
        "python-requests",
        "python-requests",
        &[Ja4, HeaderOrder],
        true,
    );
    check(
        FIREFOX_153,
        "go-net-http",
        "go-net-http",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        SAFARI_18,
        "python-requests",
        "python-requests",
        &[Ja4, HeaderOrder],
        true,
    );
    check(SAFARI_18, "curl", "curl", &[Ja4, HeaderOrder, Http2], true);
    check(
        CHROME_ON_IOS,
        "python-requests",
        "python-requests",
        &[Ja4, HeaderOrder],
        true,
    );
}

#[test]
fn one_browser_under_anothers_name_contradicts() {
    check(
        CHROME_156,
        "firefox-headless",
        "firefox-headless",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        FIREFOX_153,
        "chromium-window-agent",
        "chromium-window-agent",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        SAFARI_18,
        "chromium-window-agent",
        "chromium-window-agent",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
    check(
        CHROME_ON_IOS,
        "chromium-window-agent",
        "chromium-window-agent",
        &[Ja4, HeaderOrder, Http2],
        true,
    );
}

#[test]
fn an_old_profile_under_a_new_name_contradicts_by_its_version() {
    // Weak alone: everything else is the browser's.
    check(
        CHROME_142,
        "curl-cffi-chrome120",
        "curl-cffi-chrome120",
        &[Ja4],
        false,
    );
    check(
        CHROME_142,
        "curl-cffi-chrome131",
        "curl-cffi-chrome131",
        &[Ja4],
        false,
    );
    check(
        CHROME_156,
        "curl-cffi-chrome142",
        "curl-cffi-chrome142",
        &[Ja4],
        false,
    );
    check(
        CHROME_142,
        "chromium-window-agent",
        "chromium-window-agent",
        &[Ja4],
        false,
    );
    check(
        FIREFOX_153,
        "curl-cffi-firefox133",
        "curl-cffi-firefox133",
        &[Ja4],
        false,
    );
}

#[test]
fn honest_clients_are_left_alone() {
    check(
        CHROME_142,
        "signature-chrome-142.0.7444.176",
        "signature-chrome-142.0.7444.176",
        &[],
        false,
    );
    check(CHROME_156, "chromium-window-agent", "chromium-http1", &[], false);
    check(FIREFOX_153, "firefox-headless", "firefox-http1", &[], false);
    check(
        SAFARI_18,
        "signature-safari-18.0-macos",
        "signature-safari-18.0-macos",
        &[],
        false,
    );
    check("curl/8.14.1", "curl", "curl", &[], false);
    check(
        "python-requests/2.31.0",
        "python-requests",
        "python-requests",
        &[],
        false,
    );
    check("Go-http-client/2.0", "go-net-http", "go-net-http", &[], false);
    check("MyApp/3.1 (company)", "node-https", "node-https", &[], false);
    check("", "curl", "curl", &[], false);
    // Edge, Opera and the like are Chromium; browsers on iOS are WebKit.
    check(
        &format!("{CHROME_142} Edg/142.0.0.0"),
        "curl-cffi-chrome142",
        "curl-cffi-chrome142",
        &[],
        false,
    );
    check(
        &format!("{CHROME_142} OPR/125.0.0.0"),
        "curl-cffi-chrome142",
        "curl-cffi-chrome142",
        &[],
        false,
    );
    check(
        CHROME_ON_IOS,
        "signature-safari-18.0-ios",
        "signature-safari-18.0-ios",
        &[],
        false,
    );
    // A version that was never measured, between and beyond measured ones.
    check(
        &CHROME_142.replace("142", "139"),
        "curl-cffi-chrome142",
        "curl-cffi-chrome142",
        &[],
        false,
    );
    check(
        &FIREFOX_153.replace("153", "128"),
        "curl-cffi-firefox133",
        "curl-cffi-firefox133",
        &[],
        false,
    );
    check(
        &CHROME_156.replace("156", "158"),
        "chromium-window-agent",
        "chromium-window-agent",
        &[],
        false,
    );
}

#[test]
fn an_inspecting_proxy_alone_does_not_flag() {
    // Go's TLS and HTTP/2 with the browser's own headers.
    let matrix = {
        let (tls, http, browser) = (of("go-net-http"), of("go-net-http"), of("chromium-window-agent"));
        let orders: Vec<&str> = browser.orders.iter().map(String::as_str).collect();
        Catalogue::embedded().compare(&Observation {
            user_agents: &[CHROME_156],
            ja4: &tls.tls[0][0],
            ja4_norm: &tls.tls[0][1],
            h2_fp: &http.h2_fps[0],
            header_orders: &orders,
            ..Observation::new(SOMEWHERE)
        })
    };
    assert_eq!(contradicting(&matrix), [Ja4, Http2]);
    assert!((matrix.bits() - TRANSPORT_CAP_BITS).abs() < 0.01 && !matrix.is_flagged());
}

#[test]
fn crawlers_are_checked_by_their_networks() {
    let at = |agent: &str, address: &str| {
        Catalogue::embedded().compare(&Observation {
            user_agents: &[agent],
            ..Observation::new(address.parse().unwrap())
        })
    };
    let real = at(GOOGLEBOT, "66.249.66.1");
    assert_eq!(real.cell(Address).unwrap().verdict, Verdict::Agrees);
    assert_eq!(real.claims.kind, Kind::Crawler);
    let mapped = at(GOOGLEBOT, "::ffff:66.249.66.1");
    assert_eq!(mapped.cell(Address).unwrap().verdict, Verdict::Agrees);
    let fake = at(GOOGLEBOT, "198.51.100.7");
    assert_eq!(contradicting(&fake), [Address]);
    assert!(fake.is_flagged(), "{fake:?}");
    assert!(fake.cell(Address).unwrap().source.contains("google-googlebot"));
    let gptbot = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)";
    assert_eq!(contradicting(&at(gptbot, "2001:db8::1")), [Address]);
    // Checked by reverse name only, and by nothing at all.
    let yandex = at(
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        "198.51.100.7",
    );
    let cell = yandex.cell(Address).unwrap();
    assert_eq!(cell.verdict, Verdict::Unknown);
    assert!(cell.why.contains("yandex.ru"), "{}", cell.why);
    let preview = at("facebookexternalhit/1.1", "198.51.100.7");
    assert_eq!(preview.cell(Address).unwrap().verdict, Verdict::Unknown);
    assert_eq!(
        at(CHROME_142, "66.249.66.1").cell(Address).unwrap().verdict,
        Verdict::Unknown
    );
}

#[test]
fn tcp_is_weak_and_not_evaluated_nearby() {
    let linux = Tcp {
        ttl: 53,
        window: 64_240,
        mss: 1460,
        wscale: 7,
        options: "2,4,8,1,3",
    };
    let at = |agent: &str, tcp, address: &str| {
        let matrix = Catalogue::embedded().compare(&Observation {
            user_agents: &[agent],
            tcp: Some(tcp),
            ..Observation::new(address.parse().unwrap())
        });
        matrix.cell(Dimension::Tcp).unwrap().clone()
    };
    let lie = at(CHROME_142, linux, "198.51.100.7");
    assert_eq!(lie.verdict, Verdict::Contradicts);
    assert!(lie.bits < 2.0);
    assert_eq!(at(CHROME_156, linux, "198.51.100.7").verdict, Verdict::Agrees);
    assert!(
        at(CHROME_142, linux, "127.66.0.1")
            .why
            .starts_with("Not evaluated")
    );
    assert!(at(CHROME_142, linux, "10.0.0.1").why.starts_with("Not evaluated"));
    let windows = Tcp {
        ttl: 117,
        options: "2,1,3,1,1,4",
        ..linux
    };
    assert_eq!(at(CHROME_142, windows, "198.51.100.7").verdict, Verdict::Agrees);
    assert_eq!(
        at(SAFARI_18, windows, "198.51.100.7").verdict,
        Verdict::Contradicts
    );
}

#[test]
fn what_is_unknown_is_no_evidence() {
    let matrix = Catalogue::embedded().compare(&Observation {
        user_agents: &[CHROME_142],
        ja4: "t13d9999h2_aaaaaaaaaaaa_bbbbbbbbbbbb",
        ja4_norm: "t13d9999h2_aaaaaaaaaaaa_bbbbbbbbbbbb",
        h2_fp: "1:1;2:0|77|0|m,a,s,p",
        ..Observation::new(SOMEWHERE)
    });
    assert_eq!(contradicting(&matrix), []);
    assert!(matrix.bits() < f32::EPSILON);
}

#[test]
fn shapes_that_no_browser_has_weigh_little() {
    let shape = |ja4: &str, orders: &[&str]| {
        let matrix = Catalogue::embedded().compare(&Observation {
            user_agents: &[CHROME_142],
            ja4,
            ja4_norm: ja4,
            header_orders: orders,
            ..Observation::new(SOMEWHERE)
        });
        matrix.cell(Ja4).unwrap().clone()
    };
    for ja4 in [
        "t12d2010h2_aaaaaaaaaaaa_bbbbbbbbbbbb",
        "t13d201000_aaaaaaaaaaaa_bbbbbbbbbbbb",
        "t13d2010h1_aaaaaaaaaaaa_bbbbbbbbbbbb",
    ] {
        let cell = shape(ja4, &[]);
        assert_eq!(cell.verdict, Verdict::Contradicts, "{ja4}");
        assert!(cell.bits < FLOOR_BITS / 2.0);
    }
    // WebSocket connections offer HTTP/1.1 only.
    let websocket = ["Host,Connection,User-Agent,Upgrade,Sec-WebSocket-Key"];
    assert_eq!(
        shape("t13d2010h1_aaaaaaaaaaaa_bbbbbbbbbbbb", &websocket).verdict,
        Verdict::Unknown
    );
}

#[test]
fn headers_of_a_claimed_browser_must_be_there() {
    let cell = |agent: &str, order: &str| {
        let chromium = of("chromium-window-agent");
        let [ja4, ja4_norm, ..] = &chromium.tls[0];
        let matrix = Catalogue::embedded().compare(&Observation {
            user_agents: &[agent],
            ja4,
            ja4_norm,
            header_orders: &[order],
            header_flags_or: u32::MAX,
            header_flags_and: if order.bytes().any(|b| b.is_ascii_uppercase()) {
                0
            } else {
                1 << 24
            },
            ..Observation::new(SOMEWHERE)
        });
        matrix.cell(HeaderOrder).unwrap().clone()
    };
    let full = "sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,upgrade-insecure-requests,user-agent,accept,sec-fetch-site,\
                sec-fetch-mode,sec-fetch-user,sec-fetch-dest,accept-encoding,accept-language,priority";
    assert_eq!(cell(CHROME_156, full).verdict, Verdict::Agrees);
    // People's extensions add headers; sites read custom ones.
    assert_eq!(
        cell(CHROME_156, &format!("{full},dnt,sec-gpc,x-own")).verdict,
        Verdict::Agrees
    );
    assert_eq!(
        cell(CHROME_156, &format!("x-trace,{full},cookie")).verdict,
        Verdict::Agrees
    );
    for missing in [
        "accept-language",
        "sec-fetch-mode",
        "sec-ch-ua-platform",
        "accept-encoding",
    ] {
        let order: Vec<&str> = full.split(',').filter(|name| *name != missing).collect();
        let cell = cell(CHROME_156, &order.join(","));
        assert_eq!(cell.verdict, Verdict::Contradicts, "{missing} {cell:?}");
        assert!(cell.why.contains(missing), "{missing} {cell:?}");
    }
    let swapped = full.replace(
        "accept-encoding,accept-language",
        "accept-language,accept-encoding",
    );
    assert_eq!(cell(CHROME_156, &swapped).verdict, Verdict::Contradicts);
    let http1 = "Host,Connection,sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,Upgrade-Insecure-Requests,User-Agent,Accept,\
                 Sec-Fetch-Site,Sec-Fetch-Mode,Sec-Fetch-User,Sec-Fetch-Dest,Accept-Encoding,Accept-Language";
    assert_eq!(cell(CHROME_156, http1).verdict, Verdict::Agrees);
    let lower = cell(CHROME_156, &http1.to_ascii_lowercase());
    assert_eq!(lower.verdict, Verdict::Contradicts);
    assert!(lower.bits < 3.0 && lower.why.contains("lower case"), "{lower:?}");
    // A script's own headers change the order of what Chromium's renderer sets; all seen on the wire.
    for order in [
        "sec-ch-ua-platform,authorization,accept-language,sec-ch-ua,sec-ch-ua-mobile,x-requested-with,user-agent,accept,sec-fetch-site,\
         sec-fetch-mode,sec-fetch-dest,referer,accept-encoding,cookie,priority",
        "content-length,sec-ch-ua-platform,x-own,accept-language,sec-ch-ua,sec-ch-ua-mobile,x-csrf,user-agent,dnt,content-type,accept,\
         origin,sec-fetch-site,sec-fetch-mode,sec-fetch-dest,referer,accept-encoding,cookie,priority",
        "content-length,x-csrf,sec-ch-ua-platform,user-agent,sec-ch-ua,content-type,sec-ch-ua-mobile,accept-language,accept,origin,\
         sec-fetch-site,sec-fetch-mode,sec-fetch-dest,referer,accept-encoding,cookie,priority",
    ] {
        assert_eq!(cell(CHROME_156, order).verdict, Verdict::Agrees, "{order}");
    }
    // The page that a form's answer leads to: the hints are set again after the redirect.
    let redirected = "cache-control,upgrade-insecure-requests,user-agent,accept,sec-fetch-site,sec-fetch-mode,sec-fetch-user,\
                      sec-fetch-dest,sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,referer,accept-encoding,accept-language,cookie,priority";
    assert_eq!(cell(CHROME_156, redirected).verdict, Verdict::Agrees);
    // An automation tool that overrides the language puts it elsewhere, on navigations too.
    let overridden = "sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,upgrade-insecure-requests,user-agent,accept-language,accept,\
                      sec-fetch-site,sec-fetch-mode,sec-fetch-user,sec-fetch-dest,accept-encoding,priority";
    assert_eq!(cell(CHROME_156, overridden).verdict, Verdict::Contradicts);
    // Too old for the catalogue.
    let old = CHROME_156.replace("156", "70");
    assert_eq!(
        cell(&old, "user-agent,accept,accept-encoding,accept-language").verdict,
        Verdict::Unknown
    );
}

#[test]
fn user_agents_that_cannot_be_contradict() {
    let agent = |agents: &[&str]| {
        let matrix = Catalogue::embedded().compare(&Observation {
            user_agents: agents,
            ..Observation::new(SOMEWHERE)
        });
        matrix.cell(Dimension::UserAgent).unwrap().clone()
    };
    assert_eq!(agent(&[CHROME_142]).verdict, Verdict::Agrees);
    assert_eq!(
        agent(&[&CHROME_142.replace("NT 10.0", "NT 5.1")]).verdict,
        Verdict::Contradicts
    );
    assert_eq!(
        agent(&[&CHROME_142.replace("NT 10.0", "NT 6.1")]).verdict,
        Verdict::Contradicts
    );
    assert_eq!(
        agent(&[&CHROME_142.replace("Win64", "X11; Linux")]).verdict,
        Verdict::Contradicts
    );
    assert_eq!(agent(&[CHROME_142, FIREFOX_153]).verdict, Verdict::Contradicts);
    assert!(agent(&[CHROME_142, FIREFOX_153]).bits < 3.0);
    // A household or an office behind one address.
    assert_eq!(agent(&[CHROME_142, CHROME_156]).verdict, Verdict::Agrees);
    assert_eq!(agent(&[]).verdict, Verdict::Unknown);
}

#[test]
fn evidence_is_capped() {
    let matrix = compare(GOOGLEBOT, "curl", "curl", SOMEWHERE);
    assert_eq!(contradicting(&matrix), [Address]);
    let spoofed = compare(&format!("{CHROME_142} Googlebot/2.1"), "curl", "curl", SOMEWHERE);
    assert!(spoofed.bits() <= CAP_BITS, "{}", spoofed.bits());
    assert!(spoofed.cells.iter().map(|cell| cell.bits).sum::<f32>() > CAP_BITS);
}
