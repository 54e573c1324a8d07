"""The live screen of `bisnesctl monit`. Only `app` and `dialogs` need Textual."""
