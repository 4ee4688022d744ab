"""Who a study is about when records disagree: merged patients, contradictions, quarantine."""
