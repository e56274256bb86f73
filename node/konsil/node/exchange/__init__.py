"""Exchange: what passes between this node and its peers, from dialling to admission.

Who is connected, which heads are known, what is pulled and served, and what is let in.
"""
