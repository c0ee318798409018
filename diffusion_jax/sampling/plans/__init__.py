"""Plans that go back up: one file each."""
