//! Where the Security Token Service is: every host that we ever call for it.

/// The partitions that we know.
pub(in crate::trust) const PARTITIONS: [&str; 3] = ["aws", "aws-cn", "aws-us-gov"];

/// A host of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    /// What requests to it are signed for.
    pub(super) region: &'static str,
    pub(super) partition: &'static str,
}

impl Host {
    /// The host of an address that is exactly `https://HOST` or `https://HOST/`.
    pub(super) fn of_url(url: &str) -> Option<Self> {
        let name = url.strip_prefix("https://")?;
        let name = name.strip_suffix('/').unwrap_or(name);
        if name == GLOBAL {
            return Some(Self { name: GLOBAL.to_owned(), region: "us-east-1", partition: "aws" });
        }
        let known = REGIONS.iter().flat_map(|(partition, end, regions)| {
            regions.iter().map(move |region| (format!("sts.{region}{end}"), *region, *partition))
        });
        known
            .filter(|(known, ..)| known == name)
            .map(|(name, region, partition)| Self { name, region, partition })
            .next()
    }

    /// Where it is called, put together here.
    pub(super) fn url(&self) -> String {
        format!("https://{}/", self.name)
    }
}

const GLOBAL: &str = "sts.amazonaws.com";

type Partition = (&'static str, &'static str, &'static [&'static str]);

const REGIONS: [Partition; 3] = [
    (
        "aws",
        ".amazonaws.com",
        &[
            "af-south-1",
            "ap-east-1",
            "ap-east-2",
            "ap-northeast-1",
            "ap-northeast-2",
            "ap-northeast-3",
            "ap-south-1",
            "ap-south-2",
            "ap-southeast-1",
            "ap-southeast-2",
            "ap-southeast-3",
            "ap-southeast-4",
            "ap-southeast-5",
            "ap-southeast-6",
            "ap-southeast-7",
            "ca-central-1",
            "ca-west-1",
            "eu-central-1",
            "eu-central-2",
            "eu-north-1",
            "eu-south-1",
            "eu-south-2",
            "eu-west-1",
            "eu-west-2",
            "eu-west-3",
            "il-central-1",
            "me-central-1",
            "me-south-1",
            "mx-central-1",
            "sa-east-1",
            "us-east-1",
            "us-east-2",
            "us-west-1",
            "us-west-2",
        ],
    ),
    ("aws-us-gov", ".amazonaws.com", &["us-gov-east-1", "us-gov-west-1"]),
    ("aws-cn", ".amazonaws.com.cn", &["cn-north-1", "cn-northwest-1"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_h2_only_hosts_of_our_own_list_are_called() {
        for (url, region, partition) in [
            ("https://sts.amazonaws.com/", "us-east-1", "aws"),
            ("https://sts.amazonaws.com", "us-east-1", "aws"),
            ("https://sts.eu-central-1.amazonaws.com/", "eu-central-1", "aws"),
            ("https://sts.us-gov-west-1.amazonaws.com", "us-gov-west-1", "aws-us-gov"),
            ("https://sts.cn-north-1.amazonaws.com.cn/", "cn-north-1", "aws-cn"),
        ] {
            let host = Host::of_url(url).unwrap();
            assert_eq!((host.region, host.partition), (region, partition), "{url}");
            assert_eq!(host.url().trim_end_matches('/'), url.trim_end_matches('/'));
        }
        for bad in [
            "",
            "sts.amazonaws.com",
            "http://sts.amazonaws.com/",
            "https://sts.amazonaws.com//",
            "https://sts.amazonaws.com/x",
            "https://sts.amazonaws.com/?Action=x",
            "https://sts.amazonaws.com#",
            "https://sts.amazonaws.com:443/",
            "https://sts.amazonaws.com.",
            "https://STS.amazonaws.com/",
            "https://user@sts.amazonaws.com/",
            "https://sts.amazonaws.com@evil.example/",
            "https://sts.amazonaws.com.evil.example/",
            "https://evil.example/sts.amazonaws.com",
            "https://sts.evil.amazonaws.com/",
            "https://sts.eu-central-1.amazonaws.com.cn/",
            "https://sts.cn-north-1.amazonaws.com/",
            "https://sts..amazonaws.com/",
            "https://sts.us-east-1.s3.amazonaws.com/",
            "https://iam.amazonaws.com/",
            "https://sts-fips.us-east-1.amazonaws.com/",
            "https://sts.us-east-1.amazonaws.com\\@evil.example/",
            "https://sts.us-east-1%2eamazonaws.com/",
            "https://sts.us\u{ad}-east-1.amazonaws.com/",
            "https://169.254.169.254/",
        ] {
            assert_eq!(Host::of_url(bad), None, "{bad}");
        }
    }
}
