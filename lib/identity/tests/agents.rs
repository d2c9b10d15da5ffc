//! What User-Agents claim, as a table; and that no text, however hostile, does harm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv6Addr};

use ja4_identity::weights::CAP_BITS;
use ja4_identity::{Catalogue, Engine, Kind, Observation, Tcp, Verdict};
use proptest::prelude::*;

#[track_caller]
fn check(agent: &str, kind: Kind, family: &str, version: &str, os: &str, engine: Option<(Engine, u32)>) {
    let claims = Catalogue::embedded().classify_user_agent(agent);
    let found = (
        claims.kind,
        claims.family.as_str(),
        claims.version.as_str(),
        claims.os.as_str(),
    );
    assert_eq!(found, (kind, family, version, os));
    let found = claims
        .engine
        .map(|engine| (engine, claims.engine_version.unwrap_or(0)));
    assert_eq!(found, engine);
}

const WEBKIT: &str = "AppleWebKit/537.36 (KHTML, like Gecko)";

#[test]
fn browsers() {
    use Engine::{Chromium, Gecko, WebKit};
    let windows =
        format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/142.0.0.0 Safari/537.36");
    let chromium = Some((Chromium, 14_200));
    check(
        &windows,
        Kind::Browser,
        "Chrome",
        "142.0.0.0",
        "Windows",
        chromium,
    );
    check(
        &format!("{windows} Edg/142.0.3595.65"),
        Kind::Browser,
        "Edge",
        "142.0.3595.65",
        "Windows",
        chromium,
    );
    check(
        &format!("{windows} OPR/125.0.0.0"),
        Kind::Browser,
        "Opera",
        "125.0.0",
        "Windows",
        chromium,
    );
    check(
        &format!("Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/142.0.0.0 Mobile Safari/537.36"),
        Kind::Browser,
        "Chrome Mobile",
        "142.0.0.0",
        "Android",
        chromium,
    );
    check(
        "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        Kind::Browser,
        "Firefox",
        "145.0",
        "Linux",
        Some((Gecko, 14_500)),
    );
    check(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
        Kind::Browser,
        "Safari",
        "18.4",
        "Mac OS X",
        Some((WebKit, 1804)),
    );
    let iphone =
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)";
    check(
        &format!("{iphone} Version/18.0 Mobile/15E148 Safari/604.1"),
        Kind::Browser,
        "Mobile Safari",
        "18.0",
        "iOS",
        Some((WebKit, 1800)),
    );
    check(
        &format!("{iphone} CriOS/142.0.7444.77 Mobile/15E148 Safari/604.1"),
        Kind::Browser,
        "Chrome Mobile iOS",
        "142.0.7444.77",
        "iOS",
        Some((WebKit, 0)),
    );
    check(
        &format!("{iphone} FxiOS/145.0 Mobile/15E148 Safari/605.1.15"),
        Kind::Browser,
        "Firefox iOS",
        "145.0",
        "iOS",
        Some((WebKit, 0)),
    );
    // Engines that are gone are in no catalogue.
    let old = "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)";
    check(old, Kind::Browser, "IE", "6.0", "Windows", None);
    check(
        "Lynx/2.9.0dev.12 libwww-FM/2.14",
        Kind::Browser,
        "Lynx",
        "2.9.0",
        "",
        None,
    );
}

#[test]
fn programs_that_say_so() {
    check("curl/8.14.1", Kind::Library, "curl", "8.14.1", "", None);
    check("Wget/1.21.3", Kind::Library, "Wget", "1.21.3", "", None);
    check(
        "python-requests/2.34.2",
        Kind::Library,
        "Python Requests",
        "2.34",
        "",
        None,
    );
    check(
        "Go-http-client/2.0",
        Kind::Library,
        "Go-http-client",
        "2.0",
        "",
        None,
    );
    check("okhttp/4.12.0", Kind::Library, "okhttp", "4.12.0", "", None);
    check("node", Kind::Library, "node", "", "", None);
    let headless = format!("Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/156.0.0.0 Safari/537.36");
    let chromium = Some((Engine::Chromium, 15_600));
    check(
        &headless,
        Kind::Library,
        "HeadlessChrome",
        "156.0.0",
        "Linux",
        chromium,
    );
    check("MyApp/3.1 (company)", Kind::App, "MyApp", "", "", None);
    check("", Kind::None, "", "", "", None);
    check("   ", Kind::None, "", "", "", None);
}

#[test]
fn crawlers() {
    let claims = |agent: &str| {
        let claims = Catalogue::embedded().classify_user_agent(agent);
        (claims.kind, claims.family)
    };
    let crawler = |family: &str| (Kind::Crawler, family.to_owned());
    let googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    assert_eq!(claims(googlebot), crawler("Googlebot"));
    let rendering = format!(
        "Mozilla/5.0 {WEBKIT}; compatible; Googlebot/2.1; +http://www.google.com/bot.html) Chrome/142.0.0.0 Safari/537.36"
    );
    assert_eq!(claims(&rendering), crawler("Googlebot"));
    assert_eq!(
        claims("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"),
        crawler("bingbot")
    );
    assert_eq!(claims("GPTBot/1.2"), crawler("GPTBot"));
    assert_eq!(
        claims("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)"),
        crawler("AhrefsBot")
    );
    assert_eq!(
        claims("sqlmap/1.7.2#stable (https://sqlmap.org)").0,
        Kind::Crawler
    );
    assert_eq!(claims("UptimeRobot/2.0").0, Kind::Crawler);
}

#[test]
fn a_flood_of_user_agents_is_not_remembered() {
    let catalogue = Catalogue::load().unwrap();
    let mut most = 0;
    for i in 0..20_000 {
        let claims = catalogue.classify_user_agent(&format!("Flood/{i} {}", "x".repeat(i % 2000)));
        assert_eq!(claims.family, "Flood");
        most = most.max(catalogue.n_remembered());
    }
    assert!((4_096..=8_192).contains(&most), "{most}");
    // What is asked for again and again stays.
    for i in 0..20_000 {
        catalogue.classify_user_agent(&format!("Other/{i}"));
        assert_eq!(catalogue.classify_user_agent("curl/8.14.1").family, "curl");
    }
}

#[test]
fn cells_show_no_control_characters_and_no_long_text() {
    let hostile = format!(
        "Mozilla/5.0 \u{202e}<script>\r\n\t=cmd|' /C calc'!A1 {}",
        "A".repeat(64 << 10)
    );
    let order = format!("host,\u{7},{}", "x,".repeat(2_000));
    let matrix = Catalogue::embedded().compare(&Observation {
        user_agents: &[&hostile],
        ja4: &hostile,
        ja4_norm: &hostile,
        h2_fp: &hostile,
        header_orders: &[&order],
        ..Observation::new(IpAddr::V6(Ipv6Addr::LOCALHOST))
    });
    assert_eq!(matrix.claims.family, "Mozilla");
    for cell in &matrix.cells {
        for text in [&cell.declared, &cell.observed, &cell.why, &cell.source] {
            assert!(text.chars().count() <= 800, "{cell:?}");
            assert!(
                !text.chars().any(|c| c.is_control() || c == '\u{202e}'),
                "{cell:?}"
            );
        }
        assert_ne!(cell.verdict, Verdict::Contradicts, "{cell:?}");
    }
}

fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "Mozilla/5.0",
        "Chrome/",
        "142.0.0.0",
        "Firefox/",
        "AppleWebKit/",
        "Safari/",
        "Version/18",
        "Gecko/",
        "Googlebot",
        "Windows NT 5",
        "host",
        "Host",
        "user-agent",
        "accept",
        "sec-fetch-mode",
        ",",
        "|",
        ":",
        ";",
        " ",
        "t13d1516h2_",
        "\u{0}",
        "\u{202e}",
        "é",
        "99999999999999999999",
        "curl/",
    ]);
    prop_oneof![
        "\\PC{0,60}",
        prop::collection::vec(words, 0..12).prop_map(|words| words.concat()),
        prop::collection::vec(any::<u8>(), 0..80)
            .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn prop_compare_takes_anything(
        agents in prop::collection::vec(text(), 0..12),
        orders in prop::collection::vec(text(), 0..40),
        ja4 in text(), ja4_norm in text(), h2_fp in text(), alpn in text(), options in text(),
        flags in any::<[u32; 2]>(), tcp in any::<Option<(u8, u16, u16, u8)>>(), address in any::<[u8; 16]>(),
    ) {
        let agents: Vec<&str> = agents.iter().map(String::as_str).collect();
        let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
        let seen = Observation {
            user_agents: &agents,
            header_orders: &orders,
            ja4: &ja4,
            ja4_norm: &ja4_norm,
            h2_fp: &h2_fp,
            alpn: &alpn,
            tls_version: &alpn,
            header_flags_or: flags[0],
            header_flags_and: flags[1],
            http_versions: &[],
            tcp: tcp.map(|(ttl, window, mss, wscale)| Tcp { ttl, window, mss, wscale, options: &options }),
            address: IpAddr::from(address),
        };
        let catalogue = Catalogue::embedded();
        let matrix = catalogue.compare(&seen);
        prop_assert_eq!(&matrix, &catalogue.compare(&seen));
        prop_assert_eq!(matrix.cells.len(), 6);
        prop_assert!((0.0..=CAP_BITS).contains(&matrix.bits()));
        for cell in &matrix.cells {
            prop_assert_eq!(cell.bits > 0.0, cell.verdict == Verdict::Contradicts);
            prop_assert!(cell.why.ends_with('.'));
            let has_control = [&cell.declared, &cell.observed, &cell.why].iter().any(|text| text.chars().any(char::is_control));
            prop_assert!(!has_control, "{:?}", cell);
        }
        if let Some(network) = catalogue.crawler_of(seen.address) {
            prop_assert!(!network.operator.is_empty());
        }
    }
}
