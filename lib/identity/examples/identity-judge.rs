//! Prints the matrix of each client on standard input: JSON lines with `user_agents`, `ja4`, `ja4_norm`, `header_orders`, `h2_fp`,
//! `address`, all but the address optional. For trying the catalogue on a recording of one's own.
#![expect(clippy::print_stdout, reason = "the matrices are its output")]

use std::io::BufRead as _;
use std::net::IpAddr;

use ja4_identity::{Catalogue, Observation};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Client {
    user_agents: Vec<String>,
    ja4: String,
    ja4_norm: String,
    header_orders: Vec<String>,
    h2_fp: String,
    address: IpAddr,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            user_agents: Vec::new(),
            ja4: String::new(),
            ja4_norm: String::new(),
            header_orders: Vec::new(),
            h2_fp: String::new(),
            address: IpAddr::from([127, 0, 0, 1]),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalogue = Catalogue::embedded();
    for line in std::io::stdin().lock().lines() {
        let client: Client = serde_json::from_str(&line?)?;
        let user_agents: Vec<&str> = client.user_agents.iter().map(String::as_str).collect();
        let header_orders: Vec<&str> = client.header_orders.iter().map(String::as_str).collect();
        let matrix = catalogue.compare(&Observation {
            user_agents: &user_agents,
            ja4: &client.ja4,
            ja4_norm: &client.ja4_norm,
            header_orders: &header_orders,
            h2_fp: &client.h2_fp,
            ..Observation::new(client.address)
        });
        println!(
            "{} ({}): {:.1} bits",
            matrix.claims.describe(),
            matrix.claims.kind.name(),
            matrix.bits()
        );
        for cell in &matrix.cells {
            println!(
                "  {:<12} {:<11} {:>4.1}  {}  [{}]",
                cell.dimension.name(),
                cell.verdict.name(),
                cell.bits,
                cell.why,
                cell.source
            );
        }
    }
    Ok(())
}
