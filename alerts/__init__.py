"""Alert rules, Alertmanager's configuration and the tools that check, test and render them."""
