from stack import docs


def test_the_configuration_page_matches_the_settings() -> None:
    assert docs.CONFIGURATION.read_text(encoding="utf-8") == docs.configuration(), "run ./ops docs"


def test_the_example_of_production_has_every_setting() -> None:
    assert docs.EXAMPLE.read_text(encoding="utf-8") == docs.example(), "run ./ops docs"
