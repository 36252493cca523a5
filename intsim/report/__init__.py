"""Results for people and machines: terminal tables, JSON, JUnit."""
