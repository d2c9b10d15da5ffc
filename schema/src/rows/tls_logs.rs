//! Rows of `tls_logs`: one for each ClientHello.

use std::io::Write as _;

use ja4_model::{CanonicalAddr, TlsRecord};

use super::facts;
use crate::native::{Fixed, LowText, Text, Texts, block};

block! {
    /// Builds blocks of `tls_logs`.
    TlsLogsBlock for "tls_logs" {
        ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        recv_ts: Fixed<i64> = "DateTime64(6, 'UTC')",
        node: LowText = "LowCardinality(String)",
        boot: Fixed<u64> = "UInt64",
        seq: Fixed<u64> = "UInt64",
        conn_uid: Fixed<u128> = "UInt128",
        hello_index: Fixed<u8> = "UInt8",
        transport: Fixed<i8> = "Enum8('tcp' = 1, 'udp' = 2)",
        direction: Fixed<i8> = "Enum8('unknown' = 0, 'ingress' = 1, 'egress' = 2, 'internal' = 3)",
        confirmed: Fixed<i8> = "Enum8('none' = 0, 'acked' = 1, 'followed' = 2)",
        sample_rate: Fixed<f32> = "Float32",
        src_ip: Fixed<[u8; 16]> = "IPv6",
        src_port: Fixed<u16> = "UInt16",
        dst_ip: Fixed<[u8; 16]> = "IPv6",
        dst_port: Fixed<u16> = "UInt16",
        views: Texts = "Array(String)",
        encap: LowText = "LowCardinality(String)",
        proxy_ip: Fixed<[u8; 16]> = "IPv6",
        proxy_port: Fixed<u16> = "UInt16",
        ja4: LowText = "LowCardinality(String)",
        ja4_norm: LowText = "LowCardinality(String)",
        ja4_r: LowText = "LowCardinality(String)",
        ja3: LowText = "LowCardinality(String)",
        sni: Text = "String",
        alpn: LowText = "LowCardinality(String)",
        tls_version: LowText = "LowCardinality(String)",
        client_random: Fixed<[u8; 32]> = "FixedString(32)",
        hello_bytes: Fixed<u32> = "UInt32",
        tls_flags: Fixed<u16> = "UInt16",
        conn_flags: Fixed<u32> = "UInt32",
        tcp_ttl: Fixed<u8> = "UInt8",
        tcp_window: Fixed<u16> = "UInt16",
        tcp_mss: Fixed<u16> = "UInt16",
        tcp_wscale: Fixed<u8> = "UInt8",
        tcp_options: LowText = "LowCardinality(String)",
        syn_to_hello_us: Fixed<u32> = "UInt32",
    }
}

impl TlsLogsBlock {
    /// Appends a row.
    pub fn push(&mut self, row: &TlsRecord<'_>) {
        let mut scratch = Vec::new();
        let (head, hello, conn) = (row.head, row.hello, &row.hello.conn);
        self.ts.push(facts::micros(head.ts_ns));
        self.recv_ts
            .push(facts::micros(head.recv_ns.unwrap_or(head.ts_ns)));
        self.node.push(head.node.as_bytes());
        self.boot.push(head.boot.0);
        self.seq.push(head.seq);
        self.sample_rate.push(facts::sample_rate(head.sample_rate));
        self.conn_uid.push(conn.conn_uid.0);
        self.hello_index.push(hello.hello_index);
        self.transport.push(facts::transport(conn.transport));
        self.direction.push(facts::direction(Some(conn.direction)));
        self.confirmed.push(facts::confirmed(row.confirmed));
        self.src_ip.push(conn.pair.client.ip.0);
        self.src_port.push(conn.pair.client.port);
        self.dst_ip.push(conn.pair.server.ip.0);
        self.dst_port.push(conn.pair.server.port);
        for view in &conn.views {
            scratch.clear();
            write!(scratch, "{}>{}", view.client, view.server).expect("writing to a Vec does not fail");
            self.views.push_item(&scratch);
        }
        self.views.end_row();
        scratch.clear();
        if let Some(encap) = &conn.encap {
            scratch.extend_from_slice(encap.kind.as_bytes());
            write!(scratch, " {}", encap.network_id).expect("writing to a Vec does not fail");
            if let Some((src, dst)) = encap.outer {
                write!(scratch, " {src}>{dst}").expect("writing to a Vec does not fail");
            }
        }
        self.encap.push(&scratch);
        let (proxy_ip, proxy_port) = hello
            .proxy
            .map_or((CanonicalAddr::UNSPECIFIED, 0), |proxy| (proxy.ip, proxy.port));
        self.proxy_ip.push(proxy_ip.0);
        self.proxy_port.push(proxy_port);
        self.ja4.push(hello.tls.ja4.as_bytes());
        self.ja4_norm.push(hello.tls.ja4_norm.as_bytes());
        self.ja4_r.push(hello.tls.ja4_r.as_bytes());
        self.ja3.push(hello.tls.ja3.as_bytes());
        self.sni.push(hello.sni.as_bytes());
        self.alpn.push(facts::join_texts(&mut scratch, &hello.tls.alpn));
        self.tls_version.push(hello.tls.tls_version.as_bytes());
        self.client_random.push(hello.client_random);
        self.hello_bytes.push(hello.hello_bytes);
        self.tls_flags.push(facts::hello_flags(hello));
        self.conn_flags.push(conn.flags.0);
        let (ttl, window, mss, wscale) = facts::syn_facts(Some(conn));
        self.tcp_ttl.push(ttl);
        self.tcp_window.push(window);
        self.tcp_mss.push(mss);
        self.tcp_wscale.push(wscale);
        self.tcp_options
            .push(facts::join_numbers(&mut scratch, facts::syn_options(Some(conn))));
        self.syn_to_hello_us.push(conn.syn_to_hello_us.unwrap_or(0));
        self.rows += 1;
    }
}
