//! A scripted SMTP server. STUB.
