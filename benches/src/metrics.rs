//! Counters of a service: what its `/metrics` gained during a run.

use std::collections::BTreeMap;
use std::time::Duration;

/// Sums of counters by name, labels added up.
pub type Counters = BTreeMap<String, f64>;

/// All counters (names that end in `_total`) at `base`/metrics; none when it does not answer.
pub async fn scrape(base: &str) -> Counters {
    let client = reqwest::Client::new();
    let request = client.get(format!("{base}/metrics")).timeout(Duration::from_secs(5));
    match request.send().await {
        Ok(response) => response.text().await.map(|text| parse(&text)).unwrap_or_default(),
        Err(_) => Counters::new(),
    }
}

/// Adds the counters of one service to those of others.
pub fn add(all: &mut Counters, one: Counters) {
    for (name, value) in one {
        *all.entry(name).or_default() += value;
    }
}

/// What was gained, for counters of which there is any.
pub fn gained(before: &Counters, after: &Counters) -> Counters {
    let differences = after.iter().map(|(name, now)| (name.clone(), now - before.get(name).unwrap_or(&0.0)));
    differences.filter(|(_, gain)| *gain > 0.0).collect()
}

fn parse(text: &str) -> Counters {
    let mut counters = Counters::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or(series);
        if let (true, Ok(value)) = (name.ends_with("_total"), value.parse::<f64>()) {
            *counters.entry(name.to_owned()).or_default() += value;
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_up_and_only_counters_count() {
        let text = "# HELP records_total x\n# TYPE records_total counter\nrecords_total{topic=\"a b\"} 3\n\
                    records_total{topic=\"c\"} 4\nstore_bytes 9\nbroken_total x\n";
        let now = parse(text);
        assert_eq!(now, Counters::from([("records_total".to_owned(), 7.0)]));
        let before = Counters::from([("records_total".to_owned(), 5.0)]);
        assert_eq!(gained(&before, &now), Counters::from([("records_total".to_owned(), 2.0)]));
        assert_eq!(gained(&now, &now), Counters::new());
    }

    #[test]
    fn counters_of_several_services_are_added_up() {
        let mut all = parse("records_total 3\n");
        add(&mut all, parse("records_total 4\nretries_total 1\n"));
        assert_eq!(all, Counters::from([("records_total".to_owned(), 7.0), ("retries_total".to_owned(), 1.0)]));
    }
}
