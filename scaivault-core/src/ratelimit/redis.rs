use std::{
    fmt,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, RedisResult, Script,
    ServerErrorKind, TlsMode,
    aio::MultiplexedConnection,
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};

use super::bucket::Taken;
use crate::{Code, Error, Result};

/// Where Redis is. Whatever is in it may vanish at any time.
///
/// One server is `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`; a cluster `redis+cluster://…HOST:PORT,HOST:PORT`; a primary
/// that sentinels know `redis+sentinel://…SENTINEL:PORT,SENTINEL:PORT/NAME`. With `rediss` for `redis` over TLS, the
/// certificate verified by the roots of the system.
#[derive(Clone)]
pub struct RedisUrl(Kind);

#[derive(Clone)]
enum Kind {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinel {
        sentinels: Vec<ConnectionInfo>,
        name: String,
        tls: bool,
        user: Option<String>,
        password: Option<String>,
    },
}

impl RedisUrl {
    /// Reads it.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with the reason; the message repeats nothing of the address.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |why: &'static str| Error::new(Code::InvalidRequest, why);
        let unreadable = |_| refused("a Redis address cannot be read");
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| refused("must have the form redis://HOST:PORT"))?;
        let (plain, topology) =
            scheme.split_once('+').map_or((scheme, None), |(plain, kind)| (plain, Some(kind)));
        if !matches!(plain, "redis" | "rediss") {
            return Err(refused("must begin with redis:// or rediss://"));
        }
        let hosts = |list: &str, credentials: &str| -> Result<Vec<ConnectionInfo>> {
            list.split(',')
                .map(|host| {
                    format!("{plain}://{credentials}{host}").into_connection_info().map_err(unreadable)
                })
                .collect()
        };
        let (credentials, list) = rest.rsplit_once('@').map_or(("", rest), |(user, list)| (user, list));
        let at = if credentials.is_empty() { String::new() } else { format!("{credentials}@") };
        Ok(Self(match topology {
            None => Kind::One(Box::new(Client::open(text).map_err(unreadable)?)),
            Some("cluster") => {
                let builder = ClusterClient::builder(hosts(list, &at)?);
                let builder = builder.connection_timeout(CONNECT).response_timeout(ANSWER).retries(1);
                Kind::Cluster(Box::new(builder.build().map_err(unreadable)?))
            }
            Some("sentinel") => {
                let (list, name) = list.split_once('/').unwrap_or((list, ""));
                if name.is_empty() {
                    return Err(refused(
                        "must end with / and the name that the sentinels know the primary by",
                    ));
                }
                // They are the servers', not the sentinels'.
                let known = hosts("localhost", &at)?.remove(0);
                let known = known.redis_settings();
                Kind::Sentinel {
                    sentinels: hosts(list, "")?,
                    name: name.to_owned(),
                    tls: plain == "rediss",
                    user: known.username().map(str::to_owned),
                    password: known.password().map(str::to_owned),
                }
            }
            Some(_) => return Err(refused("must begin with redis, redis+cluster or redis+sentinel")),
        }))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let config = || {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(ANSWER))
        };
        match &self.0 {
            Kind::One(client) => {
                client.get_multiplexed_async_connection_with_config(&config()).await.map(Connection::One)
            }
            Kind::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            Kind::Sentinel { sentinels, name, tls, user, password } => {
                let nodes = sentinels.iter().map(|sentinel| sentinel.addr().clone());
                let mut builder = SentinelClientBuilder::new(nodes, name, SentinelServerType::Master)?;
                if *tls {
                    builder = builder
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure);
                }
                if let Some(user) = user {
                    builder = builder.set_client_to_redis_username(user);
                }
                if let Some(password) = password {
                    builder = builder.set_client_to_redis_password(password);
                }
                builder.build()?.get_async_connection_with_config(&config()).await.map(Connection::One)
            }
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the addresses: they may hold a password.
        f.write_str(match &self.0 {
            Kind::One(_) => "RedisUrl(one server)",
            Kind::Cluster(_) => "RedisUrl(cluster)",
            Kind::Sentinel { .. } => "RedisUrl(sentinel)",
        })
    }
}

/// Takes a token from a bucket by the server's own clock, so that those of the replicas need not agree.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local capacity, rate = tonumber(ARGV[1]), tonumber(ARGV[1]) / 60000
        local time = redis.call('TIME')
        local now = time[1] * 1000 + time[2] / 1000
        local bucket = redis.call('HMGET', KEYS[1], 'at', 'tokens')
        local at, tokens = tonumber(bucket[1]) or now, tonumber(bucket[2]) or capacity
        tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
        local ok, wait = 0, 0
        if tokens >= 1 then tokens = tokens - 1; ok = 1 else wait = math.ceil((1 - tokens) / rate) end
        redis.call('HSET', KEYS[1], 'at', tostring(now), 'tokens', tostring(tokens))
        redis.call('PEXPIRE', KEYS[1], 61000)
        return {ok, math.floor(tokens), wait}",
    )
});

/// A connection. Cheap to clone: requests share it.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn take(self, key: &str, limit: u32) -> RedisResult<(u8, u32, u64)> {
        let mut call = TAKE.key(key);
        call.arg(limit);
        match self {
            Self::One(mut connection) => call.invoke_async(&mut connection).await,
            Self::Cluster(mut connection) => call.invoke_async(&mut connection).await,
        }
    }
}

/// Buckets in Redis. What does not come in [`ANSWER`] is not waited for: the connection is given up, and a new one is
/// made in the background. (A cluster's client does not get over a server that froze, a new one does.) After a failure
/// Redis is left alone for a while, longer after each, until an answer comes.
pub(super) struct Shared(Arc<State>);

struct State {
    url: RedisUrl,
    connection: Mutex<Connected>,
    connecting: AtomicBool,
}

#[derive(Default)]
struct Connected {
    connection: Option<Connection>,
    /// Which connection this is, so that only the one that failed is given up.
    number: u64,
    /// Since the last failure, unless an answer came.
    failing: Option<Failing>,
}

#[derive(Clone, Copy)]
struct Failing {
    pause: Duration,
    until: Instant,
}

impl Connected {
    /// Takes down a failure of the connection of that number.
    fn fail(&mut self, number: u64, drop_it: bool, error: &str) {
        if self.number != number {
            return;
        }
        if drop_it {
            self.connection = None;
        }
        let pause = match self.failing {
            None => {
                tracing::warn!(
                    error,
                    "Redis does not answer: rate limits hold in each process until it does"
                );
                PAUSE
            }
            Some(before) => (before.pause * 2).min(PAUSE_MAX),
        };
        self.failing = Some(Failing { pause, until: Instant::now() + pause });
    }
}

impl Shared {
    pub(super) fn new(url: RedisUrl) -> Self {
        let state = State { url, connection: Mutex::default(), connecting: AtomicBool::new(false) };
        Self(Arc::new(state))
    }

    /// `None` if Redis does not answer, or not in time.
    pub(super) async fn take(&self, key: &str, limit: u32) -> Option<Taken> {
        let (connection, number, failing) = {
            let connected = self.0.connected();
            if connected.failing.is_some_and(|failing| Instant::now() < failing.until) {
                return None;
            }
            (connected.connection.clone(), connected.number, connected.failing.is_some())
        };
        let Some(connection) = connection else {
            self.connect(number);
            return None;
        };
        let key = format!("{PREFIX}{key}");
        let (error, drop_it) = match tokio::time::timeout(ANSWER, connection.take(&key, limit)).await {
            Ok(Ok((ok, left, wait))) => {
                if failing && self.0.connected().failing.take().is_some() {
                    tracing::info!("Redis answers: rate limits are shared");
                }
                return Some(Taken { ok: ok == 1, left: left.min(limit), wait: Duration::from_millis(wait) });
            }
            // What the server says by itself is no reason for another connection.
            Ok(Err(error)) => {
                let settled =
                    matches!(error.kind(), ErrorKind::Server(kind) if kind != ServerErrorKind::ReadOnly);
                (error.to_string(), !settled)
            }
            Err(_) => ("no answer in time".to_owned(), true),
        };
        self.0.connected().fail(number, drop_it, &error);
        None
    }

    /// Whether Redis answers: as a request would find it.
    pub(super) async fn check(&self) -> bool {
        self.take("check", 1_000_000).await.is_some()
    }

    /// Makes a connection after that of `number` in the background, unless somebody is doing so.
    fn connect(&self, number: u64) {
        let state = Arc::clone(&self.0);
        if state.connecting.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(async move {
            let made = match tokio::time::timeout(CONNECT * 3, state.url.connect()).await {
                Ok(made) => made.map_err(|error| error.to_string()),
                Err(_) => Err("no connection in time".to_owned()),
            };
            {
                let mut connected = state.connected();
                match made {
                    Ok(connection) => {
                        connected.connection = Some(connection);
                        connected.number = number + 1;
                    }
                    Err(error) => connected.fail(number, true, &error),
                }
            }
            state.connecting.store(false, Ordering::Release);
        });
    }
}

impl State {
    fn connected(&self) -> std::sync::MutexGuard<'_, Connected> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("url", &self.0.url).finish_non_exhaustive()
    }
}

/// How long an answer may take: a request does not wait longer than this for its bucket.
const ANSWER: Duration = Duration::from_millis(100);
/// How long connecting to one server may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long Redis is left alone after a failure, and how long at the most after many.
const PAUSE: Duration = Duration::from_millis(250);
/// See [`PAUSE`].
const PAUSE_MAX: Duration = Duration::from_secs(2);
const PREFIX: &str = "scaivault:limit:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused_and_never_repeated() {
        for good in [
            "redis://127.0.0.1",
            "redis://:hunter2@cache:6379/1",
            "rediss://user:hunter2@cache.example:6380",
            "redis+cluster://:hunter2@a:7000,b:7001,c:7002",
            "rediss+cluster://a:7000",
            "redis+sentinel://:hunter2@a:26379,b:26379/mymaster",
        ] {
            let url = RedisUrl::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            let shown = format!("{url:?} {:?}", Shared::new(url.clone()));
            assert!(!shown.contains("hunter2") && !shown.contains("cache"), "{shown}");
        }
        for bad in [
            "",
            "cache:6379",
            "http://cache:6379",
            "redis+ring://a:1",
            "redis+sentinel://hunter2@a:26379",
            "redis+sentinel://a:26379/",
            "redis+cluster://:hunter2@",
            "redis://hunter2:x@cache:notaport",
        ] {
            let error = RedisUrl::parse(bad).expect_err(bad);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
