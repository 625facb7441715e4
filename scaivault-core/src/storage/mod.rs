pub(crate) mod dialect;
