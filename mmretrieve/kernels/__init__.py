"""The hot loops of search: maxima of similarities over tokens, and scores of documents from them."""
