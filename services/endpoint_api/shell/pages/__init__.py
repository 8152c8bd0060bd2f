"""The contract as pages for people: HTML made here from the documents, without scripts or anything from elsewhere."""
