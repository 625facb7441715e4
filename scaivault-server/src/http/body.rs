use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use scaivault_core::{Code, Error, Result};
use zeroize::Zeroizing;

/// A body that has not been read, and how much of it may be.
pub(crate) struct Body {
    incoming: Option<Incoming>,
    bytes: usize,
    time: Duration,
    /// The peer waits for our word before it sends (RFC 9110 section 10.1.1).
    waits: bool,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, bytes: usize, time: Duration, waits: bool) -> Self {
        Self { incoming: Some(incoming), bytes, time, waits }
    }

    /// The whole body within the server's bound.
    pub(crate) async fn read(&mut self) -> Result<Zeroizing<Vec<u8>>> {
        self.read_at_most(self.bytes).await
    }

    /// The whole body, at most `max` bytes of it. What is announced to be larger is refused unread.
    pub(crate) async fn read_at_most(&mut self, max: usize) -> Result<Zeroizing<Vec<u8>>> {
        let Some(mut incoming) = self.incoming.take() else {
            return Err(Error::internal("the body was taken before"));
        };
        let announced = incoming.size_hint().lower();
        if announced > max as u64 {
            self.discard(incoming).await;
            return Err(too_large(max));
        }
        let capacity = usize::try_from(announced).unwrap_or(max);
        match tokio::time::timeout(self.time, collect(&mut incoming, capacity, max)).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => {
                self.discard(incoming).await;
                Err(too_large(max))
            }
            Ok(Err(_)) => Err(Error::new(Code::InvalidRequest, "The body ended before it was complete.")),
            Err(_) => Err(Error::new(
                Code::InvalidRequest,
                format!("The body did not arrive within {} s.", self.time.as_secs()),
            )),
        }
    }

    /// Reads on for a bounded while and throws it away: closing on unread data would reset the connection,
    /// and the peer would never see why it was refused.
    async fn discard(&self, mut incoming: Incoming) {
        if self.waits {
            return;
        }
        let drain = async {
            let mut left = DISCARD_BYTES;
            while let Some(Ok(frame)) = incoming.frame().await {
                let size = frame.data_ref().map_or(0, bytes::Bytes::len);
                let Some(rest) = left.checked_sub(size) else { break };
                left = rest;
            }
        };
        let _ = tokio::time::timeout(DISCARD_TIME, drain).await;
    }
}

/// Reads to the end; `None` once there are more than `max` bytes.
async fn collect(
    incoming: &mut Incoming,
    capacity: usize,
    max: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, hyper::Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Ok(None);
        }
        append(&mut bytes, &data);
    }
    Ok(Some(bytes))
}

/// Appends without leaving a copy behind: a buffer that has to grow is replaced and zeroized.
fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let needed = bytes.len() + data.len();
    if needed > bytes.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(bytes.capacity() * 2)));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
}

fn too_large(max: usize) -> Error {
    Error::new(Code::PayloadTooLarge, format!("The body is larger than {max} bytes."))
}

/// How much of a refused body is read at most, and for how long.
const DISCARD_BYTES: usize = 4 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growing_buffer_keeps_its_content() {
        let mut bytes = Zeroizing::new(Vec::new());
        for part in ["a", "bc", "", "defgh"] {
            append(&mut bytes, part.as_bytes());
        }
        assert_eq!(*bytes, b"abcdefgh");
    }
}
