//! Applications of the site: they read its API over our own TLS client and say so in their User-Agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::cast::AppPart;
use super::session::{Reply, Session, Stacks};
use super::{Rng, Shared};

/// Steps of one visit, at least and at most; each visit has a new connection.
const VISIT_STEPS: (u32, u32) = (2, 7);
/// Pictures whose tag an app remembers.
const MAX_CACHED: usize = 256;

/// By TLS setting: what the app is called and what it accepts.
const PRODUCTS: [(&str, Option<&str>); 3] = [
    ("FieldNotes/3.4 (Android 14)", Some("en-GB")),
    ("FieldNotes/2.9 (kiosk)", Some("de-DE")),
    ("StockSync/1.7", None),
];

/// One installation at one address.
#[derive(Debug)]
pub struct App {
    address: IpAddr,
    tls: Arc<ClientConfig>,
    product: usize,
    rng: Rng,
    tags: BTreeMap<String, String>,
}

/// What an app of this number says of itself.
pub(crate) const fn agent(number: u32) -> &'static str {
    PRODUCTS[Stacks::index(number)].0
}

impl App {
    pub(crate) fn new(part: &AppPart, rng: Rng) -> Self {
        Self {
            address: IpAddr::V4(part.address),
            // Its own: apps do not share sessions.
            tls: Stacks::new().choose(part.number),
            product: Stacks::index(part.number),
            rng,
            tags: BTreeMap::new(),
        }
    }

    /// Visits until the end.
    pub(crate) async fn live(mut self, shared: Arc<Shared>) {
        let gap = shared.config.visit_gap.0;
        let mut away = gap.mul_f64(self.rng.share());
        while !shared.pause(away).await {
            if let Err(reason) = self.visit(&shared).await {
                tracing::debug!("a visit ended: {reason}");
            }
            away = self.rng.around(gap);
        }
    }

    async fn visit(&mut self, shared: &Arc<Shared>) -> Result<(), &'static str> {
        let opening = shared.requests.begin();
        let mut session = match Session::open(shared, self.address, Arc::clone(&self.tls)).await {
            Ok(session) => session,
            Err(reason) => {
                opening.fail(reason);
                return Err(reason);
            }
        };
        let headers = self.headers(None);
        settle(
            opening,
            session.request("GET", "/api/session", &headers, "").await,
        )?;
        for _ in 0..VISIT_STEPS.0 + self.rng.below(VISIT_STEPS.1 - VISIT_STEPS.0 + 1) {
            let page = self.rng.below(4);
            let target = match self.rng.below(4) {
                0 | 1 => format!("/api/items?page={page}"),
                _ => format!("/api/items/{}", self.rng.below(40)),
            };
            let pending = shared.requests.begin();
            settle(pending, session.request("GET", &target, &headers, "").await)?;
            self.load_pictures(shared, &mut session).await?;
            if self.rng.below(3) == 0 {
                let pending = shared.requests.begin();
                let event = "{\"seen\":1}";
                settle(
                    pending,
                    session.request("POST", "/api/events", &headers, event).await,
                )?;
            }
            let look = self.rng.around(shared.config.think_time.0).mul_f64(0.3);
            if shared.pause(look).await {
                return Ok(());
            }
        }
        Ok(())
    }

    /// In parallel where the protocol has that.
    async fn load_pictures(
        &mut self,
        shared: &Arc<Shared>,
        session: &mut Session,
    ) -> Result<(), &'static str> {
        let first = self.rng.below(57);
        let targets = (first..first + self.rng.below(4)).map(|n| format!("/images/{n}.png"));
        let targets: Vec<(String, Vec<(&'static str, String)>)> = targets
            .map(|target| {
                let headers = self.headers(self.tags.get(&target));
                (target, headers)
            })
            .collect();
        let mut replies = Vec::new();
        let mut loading = tokio::task::JoinSet::new();
        for (target, headers) in targets {
            if let Some(mut session) = session.share() {
                let shared = Arc::clone(shared);
                loading.spawn(async move {
                    let pending = shared.requests.begin();
                    let result = session.request("GET", &target, &headers, "").await;
                    settle(pending, result).map(|reply| (target, reply))
                });
            } else {
                let pending = shared.requests.begin();
                let result = session.request("GET", &target, &headers, "").await;
                replies.push((target, settle(pending, result)?));
            }
        }
        while let Some(loaded) = loading.join_next().await {
            replies.push(loaded.map_err(|_| "panic")??);
        }
        for (target, reply) in replies {
            if let Some(tag) = reply.header("etag") {
                if self.tags.len() == MAX_CACHED {
                    self.tags.pop_first();
                }
                self.tags.insert(target, tag.to_owned());
            }
        }
        Ok(())
    }

    fn headers(&self, tag: Option<&String>) -> Vec<(&'static str, String)> {
        let (agent, language) = PRODUCTS[self.product];
        let mut headers = vec![
            ("User-Agent", agent.to_owned()),
            ("Accept", "application/json, image/*".to_owned()),
        ];
        headers.extend(language.map(|language| ("Accept-Language", language.to_owned())));
        headers.push(("Accept-Encoding", "identity".to_owned()));
        headers.extend(tag.map(|tag| ("If-None-Match", tag.clone())));
        headers
    }
}

fn settle(
    pending: crate::origin::counts::Pending<'_>,
    result: Result<Reply, &'static str>,
) -> Result<Reply, &'static str> {
    match result {
        Ok(reply) => {
            pending.pass();
            Ok(reply)
        }
        Err(reason) => {
            pending.fail(reason);
            Err(reason)
        }
    }
}
