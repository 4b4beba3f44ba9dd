"""People elsewhere: what a person may do at an authority over the network, and the client with which they do it.

    import capx

    key = capx.PrincipalKey.generate("ana@our.example")
    with capx.PersonClient("https://capx.our.example", key) as me:
        print(me.origin, me.name)

Modules:

    person        who has proven a request
    operations    the requests of people, each with its path
    own_tasks     what a person may see and end of the tasks on their intents
    inbox         the requests that ask a person, or are about their own work
    messages      the bodies, queries and answers
    client        the client of a person
    connection    how it signs, sends, and reads what comes
    known         which authority is at which place, as a person has confirmed it
"""
