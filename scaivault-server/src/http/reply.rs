use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Full;
use scaivault_core::{Error, Result};
use serde::Serialize;
use zeroize::Zeroizing;

/// What a handler answers.
///
/// The body is zeroized once it has been handed to the connection.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Reply {
    /// 200 with a JSON body.
    ///
    /// # Errors
    /// [`scaivault_core::Code::InternalError`] if `body` does not serialize.
    pub fn ok<T: Serialize + ?Sized>(body: &T) -> Result<Self> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with a JSON body.
    ///
    /// # Errors
    /// As [`ok`](Self::ok).
    pub fn created<T: Serialize + ?Sized>(body: &T) -> Result<Self> {
        Self::json(StatusCode::CREATED, body)
    }

    /// Any status with a JSON body.
    ///
    /// # Errors
    /// As [`ok`](Self::ok).
    pub fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Result<Self> {
        let mut size = Size(0);
        serde_json::to_writer(&mut size, body).map_err(Error::internal)?;
        // Measured first: a buffer that grows leaves copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
        serde_json::to_writer(&mut *bytes, body).map_err(Error::internal)?;
        Ok(Self::raw(status, "application/json", bytes))
    }

    /// 204, no body.
    #[must_use]
    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// 304, no body: the caller has it.
    #[must_use]
    pub fn not_modified() -> Self {
        Self { status: StatusCode::NOT_MODIFIED, ..Self::no_content() }
    }

    /// A body of another media type.
    #[must_use]
    pub fn raw(status: StatusCode, media: &'static str, body: impl Into<Zeroizing<Vec<u8>>>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        Self { status, headers, body: Bytes::from_owner(body.into()) }
    }

    /// Sets a header field, replacing what it was.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn into_response(self) -> http::Response<Full<Bytes>> {
        let mut response = http::Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// Counts bytes, keeps none.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
