//! What the service answers: a small document of one shape, and only that is read.

/// Whom the service names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) arn: String,
    pub(super) account: String,
}

/// Reads `GetCallerIdentityResponse` of version 2011-06-15. `None` for anything else: another element, or one that is
/// there twice, a comment, a declaration of entities, a reference, text between elements.
pub(super) fn read(text: &str) -> Option<Answer> {
    let mut rest = text.trim();
    if let Some(after) = rest.strip_prefix("<?xml ") {
        rest = after.split_once("?>")?.1.trim_start();
    }
    let mut rest = rest.strip_prefix(ROOT)?;
    let (mut arn, mut user, mut account) = (None, None, None);
    let mut result = take(&mut rest, "GetCallerIdentityResult")?;
    while !result.trim().is_empty() {
        let mut is = |name, place: &mut Option<String>| {
            let found = take(&mut result, name);
            let twice = found.is_some_and(|value| place.replace(value.to_owned()).is_some());
            (found.is_some(), twice)
        };
        let tries = [is("Arn", &mut arn), is("UserId", &mut user), is("Account", &mut account)];
        if tries.iter().any(|(_, twice)| *twice) || !tries.iter().any(|(found, _)| *found) {
            return None;
        }
    }
    let mut metadata = take(&mut rest, "ResponseMetadata")?;
    take(&mut metadata, "RequestId")?;
    let ended = metadata.trim().is_empty() && rest.trim() == "</GetCallerIdentityResponse>";
    let plain =
        |text: &String| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'&'));
    let (arn, account) = (arn.filter(plain)?, account.filter(plain)?);
    ended.then_some(Answer { arn, account })
}

const ROOT: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">"#;

/// The content of the element `name`, if that is what comes next; `rest` goes on behind it.
fn take<'a>(rest: &mut &'a str, name: &str) -> Option<&'a str> {
    let begin = rest.trim_start().strip_prefix('<')?.strip_prefix(name)?.strip_prefix('>')?;
    let (content, after) = begin.split_once(&format!("</{name}>"))?;
    *rest = after;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>arn:aws:sts::123456789012:assumed-role/ci/job-1</Arn>
    <UserId>AROAEXAMPLE:job-1</UserId>
    <Account>123456789012</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata>
    <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>
  </ResponseMetadata>
</GetCallerIdentityResponse>
"#;

    #[test]
    fn one_shape_is_read_and_no_other() {
        let good = Answer {
            arn: "arn:aws:sts::123456789012:assumed-role/ci/job-1".to_owned(),
            account: "123456789012".to_owned(),
        };
        assert_eq!(read(GOOD).as_ref(), Some(&good));
        assert_eq!(read(&format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{GOOD}")), Some(good));
        let arn = "<Arn>arn:aws:sts::123456789012:assumed-role/ci/job-1</Arn>";
        for (from, to) in [
            (arn, String::new()),
            (arn, format!("{arn}{arn}")),
            (arn, format!("<!-- {arn} -->")),
            (arn, format!("<x>{arn}</x>")),
            (arn, "<Arn>arn:&aws;</Arn>".to_owned()),
            (arn, "<Arn><![CDATA[arn]]></Arn>".to_owned()),
            (arn, "<Arn>arn <b/></Arn>".to_owned()),
            (arn, format!("text{arn}")),
            (arn, arn.replace("<Arn>", "<Arn a=\"b\">")),
            ("<Account>123456789012</Account>", "<Account/>".to_owned()),
            ("2011-06-15", "2012-06-15".to_owned()),
            ("GetCallerIdentityResponse", "GetSessionTokenResponse".to_owned()),
            ("</GetCallerIdentityResponse>", "</GetCallerIdentityResponse><x/>".to_owned()),
            ("</GetCallerIdentityResponse>", String::new()),
            (
                "<ResponseMetadata>",
                "<GetCallerIdentityResult></GetCallerIdentityResult><ResponseMetadata>".to_owned(),
            ),
            (
                "<GetCallerIdentityResponse",
                "<!DOCTYPE x [<!ENTITY aws \"x\">]><GetCallerIdentityResponse".to_owned(),
            ),
        ] {
            assert_eq!(read(&GOOD.replacen(from, &to, 1)), None, "{to}");
        }
        assert_eq!(read(""), None);
        assert_eq!(read(&format!("{{\"GetCallerIdentityResponse\": {GOOD:?}}}")), None);
    }
}
