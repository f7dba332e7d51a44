"""Applications that show how Eventbraid is used; they come with the package."""
