//! Measures what the catalogue costs: loading it, reading a User-Agent, comparing a client. Prints a table.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "it measures, and the figures are its output"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use ja4_identity::{Catalogue, Observation};

const ROUNDS: u32 = 20_000;

fn main() {
    let before = resident_kib();
    let started = Instant::now();
    let catalogue = Catalogue::embedded();
    println!(
        "load                         {:>9.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
    println!(
        "memory of the catalogue      {:>9.1} MiB",
        (resident_kib() - before) / 1024.0
    );

    let agents: Vec<&str> = catalogue
        .lines()
        .iter()
        .map(|line| line.user_agent)
        .filter(|agent| !agent.is_empty())
        .collect();
    // A suffix makes each text new, so that nothing is remembered.
    let fresh: Vec<String> = (0..ROUNDS)
        .map(|i| format!("{} x{i}", agents[i as usize % agents.len()]))
        .collect();
    measure("User-Agent, new", |i| {
        black_box(catalogue.classify_user_agent(&fresh[i]));
    });
    measure("User-Agent, remembered", |i| {
        black_box(catalogue.classify_user_agent(agents[i % agents.len()]));
    });
    let hostile = "Mozilla/5.0 ((((((Chrome/".repeat(3000);
    measure("User-Agent of 75 kB, new", |i| {
        black_box(catalogue.classify_user_agent(&format!("{i}{hostile}")));
    });
    println!("remembered User-Agents       {:>9}", catalogue.n_remembered());

    let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
    let page = "sec-ch-ua,sec-ch-ua-mobile,sec-ch-ua-platform,upgrade-insecure-requests,user-agent,accept,sec-fetch-site,\
                sec-fetch-mode,sec-fetch-user,sec-fetch-dest,accept-encoding,accept-language,priority";
    let image = "sec-ch-ua-platform,user-agent,sec-ch-ua,sec-ch-ua-mobile,accept,sec-fetch-site,sec-fetch-mode,sec-fetch-dest,\
                 referer,accept-encoding,accept-language,cookie,priority";
    let odd = "sec-ch-ua,user-agent,accept-language,accept,x-own,accept-encoding";
    let seen = Observation {
        user_agents: &[chrome],
        ja4: "t13d1517h2_8daaf6152771_cb7bf5808d99",
        ja4_norm: "t13d1517h2_8daaf6152771_cb7bf5808d99",
        h2_fp: "1:65536;2:0;4:6291456;6:262144|15663105|0|m,a,s,p",
        header_orders: &[page, image],
        header_flags_or: u32::MAX,
        ..Observation::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)))
    };
    measure("compare, honest browser", |_| {
        black_box(catalogue.compare(&seen));
    });
    let liar = Observation {
        ja4: "t13d1812h1_85036bcba153_b26ce05bbdd6",
        ja4_norm: "t13d1812h1_85036bcba153_b26ce05bbdd6",
        header_orders: &[odd],
        ..seen
    };
    measure("compare, library that lies", |_| {
        black_box(catalogue.compare(&liar));
    });
    let crawler = Observation {
        user_agents: &["Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"],
        ..liar
    };
    measure("compare, crawler", |_| {
        black_box(catalogue.compare(&crawler));
    });
}

fn measure(what: &str, mut act: impl FnMut(usize)) {
    let rounds = if what.contains("new") { ROUNDS / 10 } else { ROUNDS } as usize;
    let started = Instant::now();
    for i in 0..rounds {
        act(i);
    }
    println!(
        "{what:<28} {:>9.2} µs",
        started.elapsed().as_secs_f64() * 1e6 / rounds as f64
    );
}

/// Memory of this process in KiB; 0 where the system does not tell.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
