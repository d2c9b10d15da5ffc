//! People: they follow links, look at pages, load what belongs to them, search, and sometimes log in.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::browser::{Reply, Session, Stacks};
use super::{Rng, Shared};

/// Pages of one visit, at most; each visit has new connections.
const VISIT_PAGES: u32 = 8;
/// Assets of one page that are loaded: the site's largest page has twelve.
const MAX_ASSETS: usize = 16;
/// Answers whose tag a person remembers, as a browser's cache does.
const MAX_CACHED: usize = 256;

const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
];
const LANGUAGES: [&str; 3] = ["en-GB,en;q=0.9", "de,en;q=0.7", "fr-FR,fr;q=0.9,en;q=0.5"];

/// One person at one address.
#[derive(Debug)]
pub struct Person {
    number: u32,
    address: IpAddr,
    tls: Arc<ClientConfig>,
    rng: Rng,
    cookie: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Person {
    pub(crate) fn new(number: u32, address: IpAddr, stacks: &Stacks, rng: Rng) -> Self {
        Self {
            number,
            address,
            tls: stacks.choose(number),
            rng,
            cookie: None,
            tags: BTreeMap::new(),
        }
    }

    /// Visits until the end.
    pub(crate) async fn live(mut self, shared: Arc<Shared>) {
        let think_time = shared.config.think_time.0;
        // Not all at once.
        let first = self.rng.around(think_time).mul_f64(0.7);
        if shared.pause(first).await {
            return;
        }
        while !shared.shutdown.is_requested() {
            if let Err(reason) = self.visit(&shared).await {
                tracing::debug!("a visit ended: {reason}");
            }
            let away = self.rng.around(think_time);
            if shared.pause(away).await {
                return;
            }
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
        let mut target = ["/", "/topics/3", "/products/7", "/about"][self.rng.below(4) as usize].to_owned();
        let mut referer = None;
        let mut reply = settle(opening, self.get(&mut session, &target, referer.as_deref()).await)?;
        for _ in 0..2 + self.rng.below(VISIT_PAGES - 1) {
            self.remember(&target, &reply);
            let page = String::from_utf8_lossy(&reply.body).into_owned();
            self.load_assets(shared, &mut session, &page, &target).await?;
            let think = self.rng.around(shared.config.think_time.0);
            if shared.pause(think).await {
                return Ok(());
            }
            referer = Some(target);
            target = self.next_target(&page, &reply);
            let pending = shared.requests.begin();
            let result = if target == "/login" && self.rng.below(3) == 0 {
                let form = format!("user=person{0}&password=pw-person{0}", self.number);
                let headers = self.headers(referer.as_deref(), "text/html");
                session.request("POST", "/login", &headers, &form).await
            } else {
                self.get(&mut session, &target, referer.as_deref()).await
            };
            reply = settle(pending, result)?;
        }
        Ok(())
    }

    fn next_target(&mut self, page: &str, reply: &Reply) -> String {
        if let Some(location) = reply.header("location") {
            return location.to_owned();
        }
        if self.rng.below(12) == 0 {
            return format!("/search?q=word{}", self.rng.below(50));
        }
        let links: Vec<&str> = attributes(page, "href=\"")
            .filter(|link| !link.starts_with("/assets/"))
            .collect();
        let n = self.rng.below(u32::try_from(links.len()).unwrap_or(0));
        links.get(n as usize).map_or("/", |link| *link).to_owned()
    }

    async fn get(
        &self,
        session: &mut Session,
        target: &str,
        referer: Option<&str>,
    ) -> Result<Reply, &'static str> {
        let headers = self.headers(referer, "text/html,application/xhtml+xml,*/*;q=0.8");
        session.request("GET", target, &headers, "").await
    }

    fn headers(&self, referer: Option<&str>, accept: &str) -> Vec<(&'static str, String)> {
        let pick = |texts: [&str; 3]| texts[self.number as usize % 3].to_owned();
        let mut headers = vec![
            ("User-Agent", pick(AGENTS)),
            ("Accept", accept.to_owned()),
            ("Accept-Language", pick(LANGUAGES)),
            ("Accept-Encoding", "identity".to_owned()),
        ];
        headers.extend(referer.map(|referer| ("Referer", format!("https://demo.test{referer}"))));
        headers.extend(self.cookie.clone().map(|cookie| ("Cookie", cookie)));
        headers
    }

    fn remember(&mut self, target: &str, reply: &Reply) {
        if let Some(cookie) = reply.header("set-cookie") {
            let cookie = cookie.split(';').next().unwrap_or_default();
            self.cookie = (!cookie.ends_with('=')).then(|| cookie.to_owned());
        }
        if let Some(tag) = reply.header("etag") {
            if self.tags.len() == MAX_CACHED {
                self.tags.pop_first();
            }
            self.tags.insert(target.to_owned(), tag.to_owned());
        }
    }

    /// In parallel on HTTP/2; on HTTP/1.1 half of them over a second connection.
    async fn load_assets(
        &mut self,
        shared: &Arc<Shared>,
        session: &mut Session,
        page: &str,
        referer: &str,
    ) -> Result<(), &'static str> {
        let styles = attributes(page, "href=\"").filter(|link| link.starts_with("/assets/"));
        let assets: Vec<String> = styles
            .chain(attributes(page, "src=\""))
            .take(MAX_ASSETS)
            .map(str::to_owned)
            .collect();
        let replies = if session.share().is_some() {
            self.load_parallel(shared, session, &assets, referer).await?
        } else {
            let (near, far) = assets.split_at(assets.len().div_ceil(2));
            let second = async {
                if far.is_empty() {
                    return Ok(Vec::new());
                }
                let mut session = Session::open(shared, self.address, Arc::clone(&self.tls)).await?;
                self.load_serial(shared, &mut session, far, referer).await
            };
            let (first, second) = tokio::join!(self.load_serial(shared, session, near, referer), second);
            let mut replies = first?;
            replies.extend(second?);
            replies
        };
        for (target, reply) in &replies {
            self.remember(target, reply);
        }
        Ok(())
    }

    fn asset_headers(&self, target: &str, referer: &str) -> Vec<(&'static str, String)> {
        let mut headers = self.headers(Some(referer), "*/*");
        headers.extend(self.tags.get(target).map(|tag| ("If-None-Match", tag.clone())));
        headers
    }

    async fn load_serial(
        &self,
        shared: &Shared,
        session: &mut Session,
        targets: &[String],
        referer: &str,
    ) -> Result<Vec<(String, Reply)>, &'static str> {
        let mut replies = Vec::new();
        for target in targets {
            let pending = shared.requests.begin();
            let headers = self.asset_headers(target, referer);
            let result = session.request("GET", target, &headers, "").await;
            replies.push((target.clone(), settle(pending, result)?));
        }
        Ok(replies)
    }

    async fn load_parallel(
        &self,
        shared: &Arc<Shared>,
        session: &Session,
        targets: &[String],
        referer: &str,
    ) -> Result<Vec<(String, Reply)>, &'static str> {
        let mut loading = tokio::task::JoinSet::new();
        for target in targets.iter().cloned() {
            let headers = self.asset_headers(&target, referer);
            let (Some(mut session), shared) = (session.share(), Arc::clone(shared)) else {
                return Err("closed");
            };
            loading.spawn(async move {
                let pending = shared.requests.begin();
                let result = session.request("GET", &target, &headers, "").await;
                settle(pending, result).map(|reply| (target, reply))
            });
        }
        let mut replies = Vec::new();
        while let Some(loaded) = loading.join_next().await {
            replies.push(loaded.map_err(|_| "panic")??);
        }
        Ok(replies)
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

fn attributes<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    page.split(name)
        .skip(1)
        .filter_map(|part| part.split('"').next())
        .filter(|value| value.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn links_and_assets_of_a_page_are_found() {
        let page = "<link href=\"/assets/site.css\"><a href=\"/x\">x</a><img src=\"/images/1.png\"><a href=\"https://x\">";
        assert_eq!(
            attributes(page, "href=\"").collect::<Vec<_>>(),
            ["/assets/site.css", "/x"]
        );
        assert_eq!(attributes(page, "src=\"").collect::<Vec<_>>(), ["/images/1.png"]);
    }

    #[test]
    fn a_pause_lies_around_its_mean() {
        let mut rng = Rng::new(1, 2);
        let mean = Duration::from_secs(2);
        assert!((0..1000).all(|_| (mean / 2..=mean * 3 / 2).contains(&rng.around(mean))));
    }
}
